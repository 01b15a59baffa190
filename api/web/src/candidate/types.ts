// The shapes that the channel and the REST calls send. docs/live_channel.md and docs/PARALLEL_INTERVIEW_API.md are the source of truth.

export interface Question {
  index: number;
  text: string;
  type: "text" | "coding";
  time_limit_seconds: number;
  opened_at: string;
  /** Null while the clock stands still; then `remaining_seconds` says what is left. */
  deadline: string | null;
  remaining_seconds: number | null;
}

export interface SavedAnswer {
  question_index: number;
  answer: string;
  language: string | null;
  source: "submitted" | "draft" | "timeout";
}

/** What the server keeps of an answer that is being written. */
export interface ServerDraft {
  question_index: number;
  text: string;
  revision: number;
}

export interface LiveKit {
  mode: "live" | "fallback";
  url: string | null;
  token?: string | null;
  reason: string | null;
}

export interface Session {
  session_id: string;
  status: "initialized" | "in_progress" | "completed";
  status_detail: string;
  end_reason: string | null;
  candidate: { name: string };
  current_question_count: number;
  max_questions: number;
  current_question: Question | null;
  answers: SavedAnswer[];
  scheduled_at: string | null;
  consent_at: string | null;
  livekit: LiveKit;
  recording: { status: string };
  proctoring: { watches: string[]; frame_seconds: number; reference_captured_at: string | null };
  accommodations: { camera_exempt: boolean };
}

/** The page's own settings, which the server writes into it. */
export interface PageConfig {
  session_id: string;
  privacy_policy: string | null;
  nonce: string;
}

/** Storage that may be missing or full; a browser in private mode has neither. */
export type Store = Pick<Storage, "getItem" | "setItem" | "removeItem" | "key" | "length">;
