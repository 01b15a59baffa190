import assert from "node:assert/strict";
import test from "node:test";
import type { PageEvent } from "./watch";
import { Lasting, LASTING, Outbox, PATIENCE_MS, Patient } from "./watch";

const event = (type: string): PageEvent => ({ type, at: "2026-11-24T09:00:00.000Z" });
const settled = () => new Promise<void>((resolve) => setImmediate(resolve));

function line(open = true) {
  const sent: any[] = [];
  const pending: { resolve(): void; reject(): void }[] = [];
  const it = {
    sent,
    pending,
    open,
    isOpen: () => it.open,
    send: (type: string, body: object) => {
      sent.push({ type, ...body });
      return new Promise<void>((resolve, reject) => pending.push({ resolve, reject }));
    },
  };
  return it;
}

test("events go out as they happen, one frame at a time", async () => {
  const to = line();
  const outbox = new Outbox(to);
  outbox.add(event("a"));
  outbox.add(event("b"));
  outbox.add(event("c"));
  assert.equal(to.sent.length, 1);
  to.pending[0]?.resolve();
  await settled();
  assert.deepEqual(to.sent.map((frame) => frame.events.map((e: PageEvent) => e.type)), [["a"], ["b", "c"]]);
  assert.equal(to.sent[0].type, "proctoring_event");
});

test("while the line is closed they wait, 200 at most, and go out 100 at a time", async () => {
  const to = line(false);
  const outbox = new Outbox(to);
  for (let i = 0; i < 250; i++) outbox.add(event(String(i)));
  assert.equal(to.sent.length, 0);
  to.open = true;
  outbox.flush();
  to.pending[0]?.resolve();
  await settled();
  assert.deepEqual(to.sent.map((frame) => frame.events.length), [100, 100]);
  assert.equal(to.sent[0].events[0].type, "50");
});

test("sent_at is when a frame goes out, each time it does", async () => {
  const to = line();
  new Outbox(to).add(event("a"));
  const first = JSON.parse(JSON.stringify(to.sent[0])).sent_at;
  await new Promise((resolve) => setTimeout(resolve, 5));
  const second = JSON.parse(JSON.stringify(to.sent[0])).sent_at;
  assert.ok(second > first);
});

test("what is refused does not hold up the rest", async () => {
  const to = line();
  const outbox = new Outbox(to);
  outbox.add(event("a"));
  outbox.add(event("b"));
  to.pending[0]?.reject();
  await settled();
  assert.equal(to.sent.length, 2);
});

test("what lasts is told at both ends, once", () => {
  const told: string[] = [];
  const lasting = new Lasting((e) => told.push(`${e.type} ${e.phase}`));
  lasting.set("tab_hidden", false);
  lasting.set("tab_hidden", true);
  lasting.set("tab_hidden", true);
  lasting.set("tab_hidden", false);
  assert.deepEqual(told, ["tab_hidden began", "tab_hidden ended"]);
});

test("a page that was loaded again ends whatever does not last now", () => {
  const told: string[] = [];
  const lasting = new Lasting((e) => told.push(`${e.type} ${e.phase}`));
  lasting.set("fullscreen_left", true);
  lasting.endTheRest();
  assert.equal(told.length, LASTING.length);
  assert.ok(!told.includes("fullscreen_left ended"));
});

test("a camera that stalls for a moment is not off; one that stays off was so from the beginning", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: Date.parse("2026-11-24T09:00:00.000Z") });
  const told: PageEvent[] = [];
  const patient = new Patient(new Lasting((e) => told.push(e)));
  patient.set("camera_off", true);
  t.mock.timers.tick(PATIENCE_MS - 1);
  patient.set("camera_off", false);
  t.mock.timers.tick(PATIENCE_MS);
  assert.equal(told.length, 0);
  patient.set("camera_off", true);
  patient.set("camera_off", true);
  t.mock.timers.tick(PATIENCE_MS);
  patient.set("camera_off", false);
  assert.deepEqual(told.map((e) => e.phase), ["began", "ended"]);
  assert.equal(Date.parse(told[1]?.at ?? "") - Date.parse(told[0]?.at ?? ""), PATIENCE_MS);
});
