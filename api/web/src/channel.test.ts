import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { Draft } from "./candidate/drafts";
import { Channel, type ChannelOptions, CommandError, type Frame } from "./channel";

class FakeSocket {
  static all: FakeSocket[] = [];
  static get last(): FakeSocket {
    return FakeSocket.all.at(-1)!;
  }

  onopen: (() => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  sent: Frame[] = [];
  closed = false;

  constructor(readonly url: string) {
    FakeSocket.all.push(this);
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }

  close(): void {
    this.closed = true;
  }

  // What the server does:

  receive(frame: object): void {
    this.onmessage?.({ data: JSON.stringify({ server_time: new Date().toISOString(), ...frame }) });
  }

  accept(asOf = 10): void {
    this.onopen?.();
    this.receive({ type: "state", as_of: asOf, session: {} });
  }

  fail(code: number, reason = ""): void {
    this.onclose?.({ code, reason });
  }

  /** Commands that were sent, without signs of life. */
  get commands(): Frame[] {
    return this.sent.filter((frame) => frame.type !== "ping" && frame.type !== "auth");
  }

  get pings(): Frame[] {
    return this.sent.filter((frame) => frame.type === "ping");
  }
}

class FakePage extends EventTarget {
  visibilityState = "visible";
}

let page: FakePage;
let frames: Frame[];
let statuses: string[];
let open: Channel[];

beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: 1_700_000_000_000 });
  mock.method(performance, "now", () => Date.now() - 1_699_999_000_000);
  mock.method(Math, "random", () => 1);
  page = new FakePage();
  Object.assign(globalThis, { WebSocket: FakeSocket, window: page, document: page });
  Object.assign(globalThis, { location: { href: "https://interviews.test/interview/s1#secret" } });
  FakeSocket.all = [];
  frames = [];
  statuses = [];
  open = [];
});

afterEach(() => {
  for (const channel of open) channel.close();
  mock.timers.reset();
  mock.restoreAll();
});

function connect(more: Partial<ChannelOptions> = {}): Channel {
  const channel = new Channel({
    sessionId: "s1",
    token: "t0ken",
    role: "candidate",
    onFrame: (frame) => frames.push(frame),
    onStatus: (status, { code }) => statuses.push(code === undefined ? status : `${status} ${code}`),
    ...more,
  });
  open.push(channel);
  channel.connect();
  return channel;
}

function reply(type: string, command: Frame | undefined, more: object = {}): void {
  FakeSocket.last.receive({ type, command_id: command!.command_id, ...more });
}

const seqs = (): (number | undefined)[] => frames.map((frame) => frame.seq);

/** In small steps: the mock shows every timer that fires within a step the time of the end of the step. */
function elapse(ms: number): void {
  for (let left = ms; left > 0; left -= 50) mock.timers.tick(Math.min(left, 50));
  if (ms === 0) mock.timers.tick(0);
}

/** Sends something of which the outcome does not matter. */
const fire = (channel: Channel, type: string, body?: object): void => void channel.send(type, body).catch(() => {});
/** Lets what waits for promises run. */
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("the token goes in the first frame and never in the address", () => {
  connect();
  FakeSocket.last.accept();
  assert.equal(FakeSocket.last.url, "wss://interviews.test/ws/interview?session_id=s1&role=candidate");
  const { page, ...auth } = FakeSocket.last.sent[0] as Frame;
  assert.deepEqual(auth, { type: "auth", token: "t0ken" });
  assert.match(String(page), /^\S{8,64}$/);
  assert.deepEqual(statuses, ["connecting", "open"]);
});

test("without role and token nothing is told", () => {
  connect({ role: "", token: undefined });
  FakeSocket.last.onopen?.();
  assert.equal(FakeSocket.last.url, "wss://interviews.test/ws/interview?session_id=s1");
  assert.deepEqual(FakeSocket.last.sent, []);
});

test("commands wait for the channel to open", () => {
  const channel = connect();
  fire(channel, "start");
  FakeSocket.last.onopen?.();
  assert.equal(FakeSocket.last.commands.length, 0);
  FakeSocket.last.accept();
  assert.deepEqual(FakeSocket.last.commands.map((c) => c.type), ["start"]);
});

test("after a lost connection what was unanswered is sent again, in order, with the same ids", async () => {
  const channel = connect();
  FakeSocket.last.accept();
  const started = channel.send("start");
  const events = channel.send("proctoring_event", { event: { type: "paste" } });
  const answered = channel.send("answer", { question_index: 0, answer: "x" });
  const [start, event, answer] = FakeSocket.last.commands;
  reply("ok", start, { command: "start" });
  FakeSocket.last.fail(1006);
  elapse(250);
  assert.equal(FakeSocket.all.length, 2);
  FakeSocket.last.accept();
  assert.deepEqual(FakeSocket.last.commands, [event, answer]);
  reply("ok", event);
  reply("ok", answer, { replayed: true });
  assert.equal((await started).command, "start");
  await events;
  assert.equal((await answered).replayed, true);
  FakeSocket.last.fail(1006);
  elapse(1000);
  FakeSocket.last.accept();
  assert.deepEqual(FakeSocket.last.commands, []);
});

test("no event is given out twice, and state always is", () => {
  connect();
  FakeSocket.last.accept(10);
  FakeSocket.last.receive({ type: "question", seq: 11 });
  FakeSocket.last.receive({ type: "question", seq: 11 });
  FakeSocket.last.receive({ type: "answer_saved", seq: 14 });
  FakeSocket.last.fail(1012);
  elapse(250);
  assert.match(FakeSocket.last.url, /&after=14$/);
  FakeSocket.last.accept(16);
  FakeSocket.last.receive({ type: "answer_saved", seq: 14 });
  FakeSocket.last.receive({ type: "question", seq: 15 });
  FakeSocket.last.receive({ type: "state", seq: 15, session: {} });
  FakeSocket.last.receive({ type: "completed", seq: 16 });
  assert.deepEqual(seqs(), [undefined, 11, 14, undefined, 15, 15, 16]);
});

test("without any event, `after` is what the first state was as of", () => {
  connect();
  FakeSocket.last.accept(10);
  FakeSocket.last.fail(1006);
  elapse(250);
  assert.match(FakeSocket.last.url, /&after=10$/);
});

test("replies go to whoever sent the command, and to nobody else", async () => {
  const channel = connect();
  FakeSocket.last.accept();
  const ended = channel.send("end");
  reply("ok", FakeSocket.last.commands[0]);
  FakeSocket.last.receive({ type: "error", command_id: "of nobody here", detail: "Not now." });
  FakeSocket.last.receive({ type: "error", detail: "That was no JSON." });
  await ended;
  assert.deepEqual(frames.map((f) => f.type), ["state", "error"]);
});

test("an error rejects with what it says", async () => {
  const channel = connect();
  FakeSocket.last.accept();
  const answered = channel.send("answer", { question_index: 3, answer: "x" });
  reply("error", FakeSocket.last.commands[0], { code: "state_conflict", detail: "Question 3 is not open." });
  await assert.rejects(answered, (error) => {
    assert.ok(error instanceof CommandError);
    assert.deepEqual([error.code, error.message], ["state_conflict", "Question 3 is not open."]);
    return true;
  });
});

test("an error with retry_after is sent again then, with the same id", async () => {
  const channel = connect();
  FakeSocket.last.accept();
  const answered = channel.send("answer", { question_index: 0, answer: "x" });
  const [first] = FakeSocket.last.commands;
  reply("error", first, { code: "unavailable", retry_after: 2 });
  elapse(1999);
  assert.equal(FakeSocket.last.commands.length, 1);
  elapse(1);
  assert.deepEqual(FakeSocket.last.commands, [first, first]);
  reply("ok", first);
  assert.equal((await answered).type, "ok");
});

test("who ends after a draft is saved ends after it was sent again", async () => {
  const channel = connect();
  FakeSocket.last.accept();
  const draft = new Draft({
    sessionId: "s1",
    index: 0,
    store: null,
    send: (body) => channel.send("draft", body),
    onState: () => {},
  });
  draft.edit("the last words");
  const ended = draft.flush().then(async (isSaved) => assert.ok(isSaved && (await channel.send("end"))));
  const [first] = FakeSocket.last.commands;
  reply("error", first, { code: "outcome_unknown", retry_after: 1 });
  await settle();
  assert.deepEqual(FakeSocket.last.commands, [first]);
  elapse(1000);
  reply("draft_saved", first, { revision: 1, saved: true });
  await settle();
  assert.deepEqual(FakeSocket.last.commands.map((c) => c.type), ["draft", "draft", "end"]);
  reply("ok", FakeSocket.last.commands.at(-1));
  await ended;
});

test("a reconnect sends it again sooner, and only once", () => {
  const channel = connect();
  FakeSocket.last.accept();
  fire(channel, "answer", { question_index: 0, answer: "x" });
  reply("error", FakeSocket.last.commands[0], { code: "unavailable", retry_after: 4 });
  FakeSocket.last.fail(1012);
  elapse(250);
  FakeSocket.last.accept();
  assert.equal(FakeSocket.last.commands.length, 1);
  elapse(4000);
  assert.equal(FakeSocket.last.commands.length, 1);
});

test("a newer draft takes the place of an unanswered one of the same question", async () => {
  const channel = connect();
  const drafts = [
    channel.send("draft", { question_index: 0, draft: "a", revision: 1 }),
    channel.send("draft", { question_index: 1, draft: "other", revision: 1 }),
    channel.send("draft", { question_index: 0, draft: "ab", revision: 2 }),
  ];
  FakeSocket.last.accept();
  assert.deepEqual(FakeSocket.last.commands.map((c) => c.draft), ["other", "ab"]);
  drafts.push(channel.send("draft", { question_index: 0, draft: "abc", revision: 3 }));
  const [other, second, third] = FakeSocket.last.commands;
  reply("draft_saved", second, { revision: 2 });
  reply("draft_saved", third, { revision: 3 });
  reply("draft_saved", other, { revision: 1 });
  const saved = await Promise.all(drafts);
  assert.deepEqual(saved.map((frame) => frame.revision), [3, 1, 3, 3]);
  assert.deepEqual(frames.map((f) => f.type), ["state"]);
});

for (const code of [1000, 4401, 4404, 4409]) {
  test(`${code} is the end`, async () => {
    const channel = connect();
    FakeSocket.last.accept();
    const unanswered = channel.send("end");
    FakeSocket.last.fail(code);
    assert.deepEqual(statuses, ["connecting", "open", `closed ${code}`]);
    await assert.rejects(unanswered, { code: "closed" });
    await assert.rejects(channel.send("start"), { code: "closed" });
    elapse(60_000);
    assert.equal(FakeSocket.all.length, 1);
  });
}

test("a token that did not reach the server in time is sent again", () => {
  connect();
  FakeSocket.last.onopen?.();
  FakeSocket.last.fail(4401, "no token came in time");
  elapse(250);
  FakeSocket.last.accept();
  assert.deepEqual(statuses, ["connecting", "lost", "open"]);
});

for (const code of [1008, 4400]) {
  test(`after ${code} it waits for 5 s`, () => {
    connect();
    FakeSocket.last.accept();
    FakeSocket.last.fail(code);
    elapse(4999);
    assert.equal(FakeSocket.all.length, 1);
    elapse(1);
    assert.equal(FakeSocket.all.length, 2);
  });
}

test("a server that is down is tried for ever, ever more rarely", () => {
  connect();
  const tried: number[] = [];
  for (let second = 0; second < 60; second++) {
    const before = FakeSocket.all.length;
    for (let i = 0; i < 20; i++) {
      if (!FakeSocket.last.closed && FakeSocket.last.onclose) FakeSocket.last.fail(1006);
      elapse(50);
    }
    tried.push(FakeSocket.all.length - before);
  }
  assert.deepEqual(statuses, ["connecting", "lost"]);
  assert.ok(tried[0]! >= 2, String(tried));
  const lastTwenty = tried.slice(40).reduce((sum, n) => sum + n, 0);
  assert.ok(lastTwenty >= 3 && lastTwenty <= 5, String(tried));
});

test("the backoff begins anew after a stable connection", () => {
  connect();
  for (const wait of [250, 500, 1000]) {
    FakeSocket.last.fail(1006);
    elapse(wait - 1);
    const before = FakeSocket.all.length;
    elapse(1);
    assert.equal(FakeSocket.all.length, before + 1);
  }
  FakeSocket.last.accept();
  elapse(5_000);
  FakeSocket.last.fail(1012);
  elapse(250);
  assert.equal(FakeSocket.all.length, 5);
});

test("it pings, and knows the round trip and the server's time by it", () => {
  const channel = connect();
  FakeSocket.last.accept();
  elapse(40);
  reply("pong", FakeSocket.last.pings[0], { server_time: new Date(Date.now() + 60_000 - 20).toISOString() });
  assert.equal(channel.rtt, 40);
  assert.equal(channel.clock.now(), Date.now() + 60_000);
  elapse(3_500);
  assert.equal(FakeSocket.last.pings.length, 2);
  assert.deepEqual(frames.map((f) => f.type), ["state"]);
});

test("silence is a loss, without waiting for the socket to close", () => {
  let silentSince: number | undefined;
  connect({ onStatus: (status, info) => (statuses.push(status), (silentSince = info.silentSince)) });
  FakeSocket.last.accept();
  const heardAt = performance.now();
  const [socket] = FakeSocket.all;
  elapse(7_900);
  assert.deepEqual(statuses, ["connecting", "open"]);
  elapse(1_000);
  assert.deepEqual(statuses, ["connecting", "open", "lost"]);
  assert.equal(silentSince, heardAt);
  assert.equal(socket!.closed, true);
  assert.equal(FakeSocket.all.length, 2);
});

test("a page that was held up asks once more before it takes silence for a loss", () => {
  connect();
  FakeSocket.last.accept();
  reply("pong", FakeSocket.last.pings[0]);
  elapse(3_000);
  const asked = FakeSocket.last.pings.length;
  mock.timers.setTime(Date.now() + 60_000);
  elapse(500);
  assert.deepEqual(statuses, ["connecting", "open"]);
  assert.equal(FakeSocket.last.pings.length, asked + 1);
  reply("pong", FakeSocket.last.pings.at(-1));
  elapse(2_000);
  assert.deepEqual(statuses, ["connecting", "open"]);
});

test("a handshake that hangs is given up", () => {
  connect();
  elapse(12_000);
  assert.deepEqual(statuses, ["connecting", "lost"]);
  assert.equal(FakeSocket.all[0]!.closed, true);
});

test("offline is a loss at once, online a try at once", () => {
  connect();
  FakeSocket.last.accept();
  page.dispatchEvent(new Event("offline"));
  assert.deepEqual(statuses, ["connecting", "open", "lost"]);
  for (let i = 0; i < 5; i++) {
    elapse(5_000);
    FakeSocket.last.fail(1006);
  }
  const before = FakeSocket.all.length;
  page.dispatchEvent(new Event("online"));
  elapse(0);
  assert.equal(FakeSocket.all.length, before + 1);
});

test("a page that is seen again asks at once", () => {
  connect();
  FakeSocket.last.accept();
  page.visibilityState = "hidden";
  page.dispatchEvent(new Event("visibilitychange"));
  assert.equal(FakeSocket.last.pings.length, 1);
  page.visibilityState = "visible";
  page.dispatchEvent(new Event("visibilitychange"));
  assert.equal(FakeSocket.last.pings.length, 2);
});

test("whoever was replaced can take over again", async () => {
  const channel = connect();
  FakeSocket.last.accept(10);
  FakeSocket.last.receive({ type: "question", seq: 12 });
  FakeSocket.last.fail(4409);
  channel.connect();
  assert.match(FakeSocket.last.url, /after=12/);
  FakeSocket.last.accept(12);
  assert.deepEqual(statuses, ["connecting", "open", "closed 4409", "connecting", "open"]);
  const started = channel.send("start");
  reply("ok", FakeSocket.last.commands[0]);
  await started;
});

test("closing it closes the socket, and nothing comes after", async () => {
  const channel = connect({ onStatus: (status) => status === "lost" && channel.close() });
  FakeSocket.last.accept();
  FakeSocket.last.fail(1006);
  assert.equal(channel.status, "closed");
  elapse(10_000);
  assert.equal(FakeSocket.all.length, 1);
  await settle();
});
