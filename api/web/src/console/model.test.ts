import assert from "node:assert/strict";
import { test } from "node:test";
import { EventParser } from "./events";
import { csvOf, readInvited } from "./invitations";
import { countsOf, EMPTY, leftMs, listsOf, matches, type Row, withEvent } from "./model";

const row = (id: string, more: Partial<Row> = {}): Row =>
  ({ session_id: id, version: 1, status: "in_progress", status_detail: "question_open", created_at: "2026", page: "here", ...more }) as Row;

test("events come out whole, however the stream was cut", () => {
  const stream = 'id: 1\nevent: all\ndata: {"a": "x: y"}\n\n: a comment\n\nevent: change\ndata: {}\n\n';
  for (let size = 1; size < stream.length; size += 3) {
    const parser = new EventParser();
    const found = [];
    for (let at = 0; at < stream.length; at += size) found.push(...parser.take(stream.slice(at, at + size)));
    assert.deepEqual(found, [{ type: "all", data: '{"a": "x: y"}' }, { type: "change", data: "{}" }]);
  }
});

test("changes add, replace and remove rows; what was there stays the same object", () => {
  const all = withEvent(EMPTY, "all", { rows: [row("a"), row("b")], live: 2 });
  const after = withEvent(all, "change", { rows: [row("b", { version: 2 })], gone: ["x"], live: 3 });
  assert.equal(after.rows.get("a"), all.rows.get("a"));
  assert.equal(after.rows.get("b")?.version, 2);
  assert.equal(after.live, 3);
  assert.equal(withEvent(after, "change", { waiting: 7 }).rows, after.rows);
  assert.equal(withEvent(after, "change", { gone: ["a"] }).rows.size, 1);
  assert.equal(withEvent(after, "all", { rows: [] }).rows.size, 0);
});

test("an older row does not take the place of what a command has answered", () => {
  const board = withEvent(EMPTY, "all", { rows: [row("a", { version: 5 })] });
  assert.equal(withEvent(board, "change", { rows: [row("a", { version: 4 })] }).rows.get("a")?.version, 5);
});

test("trouble is told, and is over again", () => {
  const board = withEvent(EMPTY, "change", { trouble: "The database does not answer." });
  assert.equal(board.trouble, "The database does not answer.");
  assert.equal(board.isComplete, false);
  assert.equal(withEvent(board, "change", { trouble: null }).trouble, null);
});

test("rows are in the order in which people look for them", () => {
  const { live, waiting, ended } = listsOf([
    row("l2", { started_at: "2026-02" }),
    row("l1", { started_at: "2026-01" }),
    row("w2", { status: "initialized", created_at: "2026-03", scheduled_at: null }),
    row("w1", { status: "initialized", created_at: "2026-04", scheduled_at: "2026-05" }),
    row("e1", { status: "completed", completed_at: "2026-01" }),
    row("e2", { status: "completed", completed_at: "2026-02" }),
  ]);
  assert.deepEqual([live, waiting, ended].flat().map((one) => one.session_id), ["l1", "l2", "w1", "w2", "e2", "e1"]);
});

test("whoever is cut off or parked needs attention", () => {
  assert.equal(matches(row("a"), "attention"), false);
  assert.equal(matches(row("a", { page: "lost" }), "attention"), true);
  assert.equal(matches(row("a", { status_detail: "parked" }), "attention"), true);
  assert.equal(matches(row("a", { status_detail: "paused" }), "paused"), true);
});

test("time runs by the deadline, and stands while there is none", () => {
  const question = { index: 0, type: "text", deadline: "2026-05-01T09:01:00.000Z", remaining_seconds: null } as const;
  assert.equal(leftMs(question, Date.parse("2026-05-01T09:00:00.000Z")), 60_000);
  assert.equal(leftMs(question, Date.parse("2026-05-01T10:00:00.000Z")), 0);
  assert.equal(leftMs({ ...question, deadline: null, remaining_seconds: 12.5 }, 0), 12_500);
  assert.equal(leftMs(null, 0), null);
});

test("candidates come from CSV, from a spreadsheet, and with or without a head", () => {
  const two = [
    { line: 2, name: "Ada, Countess", email: "ada@example.com" },
    { line: 3, name: 'Al "Q" Li', email: "al@example.com" },
  ];
  assert.deepEqual(readInvited('name,email\n"Ada, Countess",ada@example.com\r\n"Al ""Q"" Li",al@example.com\n').invited, two);
  assert.deepEqual(readInvited("email;name\nada@example.com;Ada").invited, [{ line: 2, name: "Ada", email: "ada@example.com" }]);
  assert.deepEqual(readInvited("Ada\tada@example.com\n\nBo\tbo@example.com").invited.map((one) => one.line), [1, 3]);
});

test("what is wrong with a line is said with its number", () => {
  const { invited, problems } = readInvited("Ada,ada@example.com\nBo,bo\n,x@example.com\nEve,ADA@example.com\n=1+1,e@example.com");
  assert.equal(invited.length, 1);
  assert.deepEqual(problems.map((one) => one.slice(0, 7)), ["Line 2:", "Line 3:", "Line 4:", "Line 5:"]);
});

test("no cell of what is copied is a formula", () => {
  assert.equal(csvOf([["=cmd", 'a"b']]), '"\'=cmd","a""b"\r\n');
});

test("what is listed counts, unless there are more than are listed", () => {
  const many = (n: number): Row[] => Array.from({ length: n }, (_, i) => row(`${i}`));
  const board = { ...EMPTY, live: 4_000, waiting: 7_000 };
  assert.deepEqual(countsOf(board, { live: many(2), waiting: many(100), ended: [] }), { live: 2, waiting: 7_000 });
  assert.deepEqual(countsOf(board, { live: many(1_000), waiting: [], ended: [] }), { live: 4_000, waiting: 0 });
});
