import { rest } from "../api";
import { uuid } from "../uuid";
import type { StaffSession } from "./model";

/** Keys of commands of which nobody knows yet whether they have run: pressed again, they must not run twice. */
const unsettled = new Map<string, string>();

/** Runs a command on a session: pause, resume, extend, end, start, link. Throws Problem. */
export async function command<T = { session: StaffSession }>(sessionId: string, name: string, body: object = {}): Promise<T> {
  const what = JSON.stringify([sessionId, name, body]);
  const key = unsettled.get(what) ?? uuid();
  unsettled.set(what, key);
  const path = `/session/${encodeURIComponent(sessionId)}/${name}`;
  const answer = await rest<T>(path, { method: "POST", json: body, key });
  unsettled.delete(what);
  return answer;
}
