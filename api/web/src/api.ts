import { uuid } from "./uuid";

const BASE = "/api/parallel_interview";
const PATIENCE_MS = 30_000;
const ATTEMPT_MS = 15_000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5_000;

export interface RestOptions {
  method?: string;
  json?: unknown;
  form?: FormData;
  body?: BodyInit;
  /** The Idempotency-Key; a POST without one gets a new one. Give your own to go on with a command of the channel. */
  key?: string;
  headers?: Record<string, string>;
  /** What the path is relative to; "" for `/capture_reference_face`. */
  base?: string;
}

/** A call that was refused, as its problem document says; status 0 if nobody answered. `detail` is a sentence. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly detail: string,
    readonly body: Record<string, unknown> = {},
  ) {
    super(detail);
    this.name = "Problem";
  }
}

let credential: Record<string, string> = {};

/** Who calls from now on: the candidate by a token, staff by the key that they typed, or nobody. */
export function authorize(who: { token: string } | { staffKey: string } | null): void {
  if (who === null) credential = {};
  else credential = "token" in who ? { Authorization: `Bearer ${who.token}` } : { "X-API-Key": who.staffKey };
}

/**
 * Calls the service and gives the JSON of a success. While nobody answers, or the service asks to come again (429, 503),
 * the same call is repeated for up to 30 s; the key sees to it that it has one outcome. Throws Problem.
 */
export async function rest<T = Record<string, unknown>>(path: string, options: RestOptions = {}): Promise<T> {
  const address = (options.base ?? BASE) + path;
  const request = requestOf(options);
  const giveUpAt = performance.now() + PATIENCE_MS;
  for (let attempt = 0; ; attempt++) {
    const { problem, value, waitMs } = await attemptOnce<T>(address, request);
    if (problem === null) return value as T;
    const wait = waitMs ?? Math.min(FIRST_WAIT_MS * 2 ** attempt, LONGEST_WAIT_MS);
    if (!worthRepeating(problem) || performance.now() + wait > giveUpAt) throw problem;
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

function requestOf(options: RestOptions): RequestInit {
  const hasBody = options.json !== undefined || options.form !== undefined || options.body !== undefined;
  const method = options.method ?? (hasBody ? "POST" : "GET");
  const headers: Record<string, string> = { Accept: "application/json", ...credential, ...options.headers };
  if (method === "POST" || options.key !== undefined) headers["Idempotency-Key"] = options.key ?? uuid();
  if (options.json === undefined) return { method, headers, body: options.form ?? options.body, cache: "no-store" };
  headers["Content-Type"] = "application/json";
  return { method, headers, body: JSON.stringify(options.json), cache: "no-store" };
}

interface Attempt<T> {
  problem: Problem | null;
  value?: T;
  waitMs?: number;
}

async function attemptOnce<T>(address: string, request: RequestInit): Promise<Attempt<T>> {
  try {
    const response = await fetch(address, { ...request, signal: AbortSignal.timeout(ATTEMPT_MS) });
    const isJson = /\bjson\b/.test(response.headers.get("Content-Type") ?? "");
    const body = isJson ? ((await response.json()) as unknown) : null;
    if (response.ok) return { problem: null, value: body as T };
    return { problem: problemOf(response, body), waitMs: retryAfterMs(response) };
  } catch {
    return { problem: new Problem(0, "network", "The service cannot be reached. Check the connection and try again.") };
  }
}

function problemOf(response: Response, body: unknown): Problem {
  const members = (typeof body === "object" && body !== null ? body : {}) as Record<string, unknown>;
  const detail = typeof members.detail === "string" ? members.detail : `The service answered ${response.status}.`;
  const code = typeof members.code === "string" ? members.code : "unknown";
  return new Problem(response.status, code, detail, members);
}

function worthRepeating(problem: Problem): boolean {
  return problem.status === 0 || problem.status === 429 || (problem.status >= 502 && problem.status <= 504);
}

function retryAfterMs(response: Response): number | undefined {
  const seconds = Number(response.headers.get("Retry-After") ?? NaN);
  return Number.isFinite(seconds) ? seconds * 1000 : undefined;
}
