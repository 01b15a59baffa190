import assert from "node:assert/strict";
import test, { mock } from "node:test";
import { Draft, forgetDrafts, isCutShort, isTooLong, MAX_BYTES, readDraft, wellFormed, within } from "./drafts";
import type { ServerDraft, Store } from "./types";

function memory(): Store {
  const items = new Map<string, string>();
  return {
    getItem: (key) => items.get(key) ?? null,
    setItem: (key, value) => void items.set(key, value),
    removeItem: (key) => void items.delete(key),
    key: (i) => [...items.keys()][i] ?? null,
    get length() {
      return items.size;
    },
  };
}

type Reply = { saved: boolean; revision: number };

/** A draft whose server answers as it is told; by default everything is saved. */
function desk(options: { store?: Store | null; known?: ServerDraft | null; answer?: (sent: { revision: number }) => Promise<Reply> } = {}) {
  const sent: { draft: string; revision: number }[] = [];
  const states: string[] = [];
  const answer = options.answer ?? (async ({ revision }) => ({ saved: true, revision }));
  const store = options.store === undefined ? memory() : options.store;
  const draft = new Draft({
    sessionId: "s",
    index: 1,
    store,
    known: options.known,
    send: (body) => {
      sent.push({ draft: body.draft, revision: body.revision });
      return answer(body);
    },
    onState: (state) => states.push(state),
  });
  return { draft, sent, states, store };
}

const known = (revision: number, question_index = 1) => ({ question_index, text: "from the server", revision });

for (const [what, server, text, revision] of [
  ["further", known(8), "from the server", 8],
  ["as far", known(7), "from here", 7],
  ["behind", known(6), "from here", 7],
  ["of another question", known(8, 0), "from here", 7],
  ["nowhere", null, "from here", 7],
] as const) {
  test(`it starts from what is further: the server is ${what}`, () => {
    const store = memory();
    store.setItem("interview-draft:s:1", JSON.stringify({ text: "from here", revision: 7, language: "" }));
    const { draft, sent } = desk({ store, known: server });
    assert.equal(draft.text, text);
    draft.edit("more");
    draft.flush();
    assert.deepEqual(sent, [{ draft: "more", revision: revision + 1 }]);
  });
}

const settled = () => new Promise<void>((resolve) => setImmediate(resolve));

test("a draft goes out when typing pauses, and says that it is saved", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { draft, sent, states } = desk();
  draft.edit("a");
  t.mock.timers.tick(300);
  draft.edit("ab");
  t.mock.timers.tick(399);
  assert.equal(sent.length, 0);
  t.mock.timers.tick(1);
  assert.deepEqual(sent, [{ draft: "ab", revision: 1 }]);
  await settled();
  assert.deepEqual(states, ["saving", "saved"]);
});

test("who types without a pause is saved every five seconds", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { draft, sent } = desk();
  for (let i = 0; i < 105; i++) {
    draft.edit("x".repeat(i + 1));
    t.mock.timers.tick(100);
  }
  assert.equal(sent.length, 2);
  mock.timers.reset();
});

test("flush sends at once, and only what is new", () => {
  const { draft, sent } = desk();
  draft.edit("a");
  draft.flush();
  draft.flush();
  assert.deepEqual(sent, [{ draft: "a", revision: 1 }]);
});

test("who flushes learns when all that is written is saved, also what is typed meanwhile", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const replies: (() => void)[] = [];
  const { draft, sent } = desk({
    answer: ({ revision }) => new Promise((resolve) => replies.push(() => resolve({ saved: true, revision }))),
  });
  let isSaved: boolean | undefined;
  draft.edit("a");
  void draft.flush().then((outcome) => (isSaved = outcome));
  draft.edit("ab");
  replies[0]!();
  await settled();
  assert.equal(isSaved, undefined);
  t.mock.timers.tick(400);
  assert.deepEqual(sent.map((s) => s.draft), ["a", "ab"]);
  replies[1]!();
  await settled();
  assert.equal(isSaved, true);
  assert.equal(await draft.flush(), true);
  assert.equal(sent.length, 2);
});

test("who flushes learns that it is not taken, or that there is nothing to save", async () => {
  const refused = desk({ answer: async () => Promise.reject({ code: "state_conflict" }) });
  refused.draft.edit("a");
  assert.equal(await refused.draft.flush(), false);
  refused.draft.edit("x".repeat(MAX_BYTES + 1));
  assert.equal(await refused.draft.flush(), false);
  refused.draft.close();
  assert.equal(await refused.draft.flush(), true);
  const empty = desk();
  assert.equal(await empty.draft.flush(), true);
  assert.equal(empty.sent.length, 0);
});

test("a question that is closed meanwhile leaves nobody waiting", async () => {
  const { draft } = desk({ answer: () => new Promise(() => {}) });
  draft.edit("a");
  const flushed = draft.flush();
  draft.close();
  assert.equal(await flushed, true);
});

test("nobody waits for longer than they want to", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const never = within(10_000, new Promise(() => {}));
  t.mock.timers.tick(10_000);
  assert.equal(await never, false);
  assert.equal(await within(10_000, Promise.resolve(true)), true);
});

test("text that is deleted again is a draft too", async () => {
  const { draft, sent, states } = desk();
  draft.edit("a");
  draft.flush();
  draft.edit("");
  draft.flush();
  await settled();
  assert.deepEqual(sent.map((s) => s.draft), ["a", ""]);
  assert.equal(states.at(-1), "empty");
});

test("each keystroke is on the device; a reload has it back and counts on", () => {
  const first = desk();
  first.draft.edit("a");
  first.draft.flush();
  first.draft.edit("ab");
  first.draft.setLanguage("python");
  assert.deepEqual(readDraft(first.store, "s", 1), { text: "ab", language: "python", revision: 1 });
  const second = desk({ store: first.store });
  assert.equal(second.draft.text, "ab");
  assert.equal(second.draft.language, "python");
  second.draft.resume();
  second.draft.flush();
  assert.deepEqual(second.sent, [{ draft: "ab", revision: 2 }]);
  first.draft.close();
});

test("a device that knows less than the server starts above what the server has", async () => {
  let stored = 41;
  const { draft, sent, states } = desk({
    answer: async ({ revision }) => {
      const saved = revision > stored;
      stored = Math.max(stored, revision);
      return { saved, revision: stored };
    },
  });
  draft.edit("here");
  draft.flush();
  await settled();
  await settled();
  assert.deepEqual(sent.map((s) => s.revision), [1, 42]);
  assert.equal(states.at(-1), "saved");
});

test("what was not saved is never called saved, and is sent again with a newer revision", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let isMoving = true;
  const { draft, sent, states } = desk({
    answer: async ({ revision }) => (isMoving ? { saved: false, revision: 0 } : { saved: true, revision }),
  });
  let isSaved: boolean | undefined;
  draft.edit("the last words");
  void draft.flush().then((outcome) => (isSaved = outcome));
  await settled();
  assert.deepEqual(states, ["saving", "local"]);
  isMoving = false;
  t.mock.timers.tick(3_000);
  await settled();
  assert.deepEqual(sent.map((s) => s.revision), [1, 2]);
  assert.deepEqual(states, ["saving", "local", "saving", "saved"]);
  assert.equal(isSaved, true);
});

test("a reply that two drafts wait for is that of the newer one", async () => {
  let reply: (() => void) | undefined;
  const replied = new Promise<Reply>((resolve) => (reply = () => resolve({ saved: false, revision: 7 })));
  const { draft, sent, states } = desk({ answer: ({ revision }) => (revision <= 2 ? replied : new Promise(() => {})) });
  draft.edit("a");
  void draft.flush();
  draft.edit("ab");
  void draft.flush();
  reply!();
  await settled();
  assert.deepEqual(sent.map((s) => s.revision), [1, 2, 8]);
  assert.equal(states.at(-1), "saving");
});

test("an answer to an older draft does not call newer text saved", async () => {
  const { draft, states } = desk();
  draft.edit("a");
  draft.flush();
  draft.edit("ab");
  await settled();
  assert.equal(states.at(-1), "saving");
  draft.close();
});

test("what the server does not take is kept on the device, and sent with the next flush", async () => {
  let refuse = true;
  const { draft, sent, states } = desk({
    answer: async ({ revision }) => {
      if (refuse) throw { code: "state_conflict" };
      return { saved: true, revision };
    },
  });
  draft.edit("a");
  draft.flush();
  await settled();
  assert.equal(states.at(-1), "local");
  refuse = false;
  draft.flush();
  await settled();
  assert.equal(sent.length, 2);
  assert.equal(states.at(-1), "saved");
});

test("without storage nobody says that it is kept", async () => {
  const { draft, states } = desk({ store: null, answer: async () => Promise.reject({ code: "closed" }) });
  draft.edit("a");
  draft.flush();
  await settled();
  assert.equal(states.at(-1), "unsaved");
});

test("text that is too long is told here, and not sent", () => {
  assert.equal(isTooLong("x".repeat(MAX_BYTES)), false);
  assert.equal(isTooLong("€".repeat(22_000)), true);
  const { draft, sent, states } = desk();
  draft.edit("x".repeat(MAX_BYTES + 1));
  draft.flush();
  assert.equal(sent.length, 0);
  assert.deepEqual(states, ["too_long"]);
});

test("a closed draft sends and keeps nothing more", () => {
  const { draft, sent, store } = desk();
  draft.edit("a");
  draft.close();
  forgetDrafts(store, "s");
  draft.flush();
  draft.edit("ab");
  assert.equal(sent.length, 0);
  assert.equal(readDraft(store, "s", 1), null);
});

test("drafts of closed questions go, those of others and of other sessions stay", () => {
  const store = memory();
  for (const [session, index] of [["s", 0], ["s", 1], ["t", 0]] as const)
    store.setItem(`interview-draft:${session}:${index}`, JSON.stringify({ text: "x" }));
  forgetDrafts(store, "s", (index) => index === 0);
  assert.equal(readDraft(store, "s", 0), null);
  assert.equal(readDraft(store, "s", 1)?.text, "x");
  forgetDrafts(store, "s");
  assert.equal(readDraft(store, "s", 1), null);
  assert.equal(readDraft(store, "t", 0)?.text, "x");
});

test("an answer is cut short if the device has more of it than what counts", () => {
  const store = memory();
  store.setItem("interview-draft:s:1", JSON.stringify({ text: "as far as I came" }));
  const counts = (answer: string, source: "draft" | "timeout" | "submitted", question_index = 1) =>
    isCutShort(store, "s", { question_index, answer, source, language: null });
  assert.equal(counts("as far", "draft"), true);
  assert.equal(counts("", "timeout"), true);
  assert.equal(counts("as far as I came", "draft"), false);
  assert.equal(counts("as far", "submitted"), false);
  assert.equal(counts("as far", "draft", 2), false);
});

test("half characters and NUL do not reach the server", () => {
  assert.equal(wellFormed("a\0b\ud800c😀"), "ab\ufffdc😀");
});
