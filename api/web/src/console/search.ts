import { useEffect, useState } from "preact/hooks";
import { Problem, rest } from "../api";
import type { Job } from "./Create";
import { rowOf, type Row, type StaffSession } from "./model";

const PAUSE_MS = 250;
const MOST = 25;
const MOST_JOBS = 3;
const SESSION_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export interface Found {
  /** What was searched for; "": nothing. */
  text: string;
  rows: Row[];
  hasMore: boolean;
  problem: string | null;
}

const NOTHING: Found = { text: "", rows: [], hasMore: false, problem: null };

interface Page {
  sessions: StaffSession[];
  has_more: boolean;
}

/** Sessions by the candidate's name or email, by their id, or by the job; null while it is being searched. */
export function useSearch(text: string, jobs: Job[]): Found | null {
  const [found, setFound] = useState<Found>(NOTHING);
  const wanted = text.trim();
  useEffect(() => {
    if (wanted === "") return setFound(NOTHING);
    let isCurrent = true;
    const timer = setTimeout(async () => {
      const result = await search(wanted, jobs);
      if (isCurrent) setFound(result);
    }, PAUSE_MS);
    return () => {
      isCurrent = false;
      clearTimeout(timer);
    };
  }, [wanted, jobs]);
  return found.text === wanted ? found : null;
}

async function search(text: string, jobs: Job[]): Promise<Found> {
  try {
    const pages = await Promise.all([byWords(text), byId(text), ...jobsLike(text, jobs).map(byJob)]);
    const rows = new Map(pages.flatMap((page) => page.sessions).map((session) => [session.session_id, rowOf(session)]));
    return { text, rows: [...rows.values()], hasMore: pages.some((page) => page.has_more), problem: null };
  } catch (problem) {
    return { ...NOTHING, text, problem: problem instanceof Problem ? problem.detail : "Something went wrong here." };
  }
}

function jobsLike(text: string, jobs: Job[]): string[] {
  const wanted = text.toLowerCase();
  const like = jobs.filter((job) => job.job_id.toLowerCase().startsWith(wanted) || job.title.toLowerCase().includes(wanted));
  return like.slice(0, MOST_JOBS).map((job) => job.job_id);
}

async function byWords(text: string): Promise<Page> {
  if (!/[\p{L}\p{N}]/u.test(text)) return { sessions: [], has_more: false };
  return rest<Page>(`/sessions?limit=${MOST}&q=${encodeURIComponent(text.slice(0, 200))}`);
}

async function byJob(jobId: string): Promise<Page> {
  return rest<Page>(`/sessions?limit=${MOST}&job_id=${encodeURIComponent(jobId)}`);
}

async function byId(text: string): Promise<Page> {
  if (!SESSION_ID.test(text)) return { sessions: [], has_more: false };
  try {
    const { session } = await rest<{ session: StaffSession }>(`/session/${text.toLowerCase()}`);
    return { sessions: [session], has_more: false };
  } catch (problem) {
    if (problem instanceof Problem && problem.status === 404) return { sessions: [], has_more: false };
    throw problem;
  }
}
