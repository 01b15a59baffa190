// The languages of coding answers, and which one was chosen last.

import type { Store } from "./types";

export const LANGUAGES = {
  python: "Python",
  javascript: "JavaScript",
  typescript: "TypeScript",
  java: "Java",
  c: "C",
  cpp: "C++",
  csharp: "C#",
  go: "Go",
  rust: "Rust",
  kotlin: "Kotlin",
  swift: "Swift",
  ruby: "Ruby",
  sql: "SQL",
  shell: "Shell",
  text: "Plain text",
} as const;
export type Language = keyof typeof LANGUAGES;

const KEY = "interview-language";

export function isLanguage(value: unknown): value is Language {
  return typeof value === "string" && Object.hasOwn(LANGUAGES, value);
}

export function rememberedLanguage(store: Store | null): Language {
  try {
    const value = store?.getItem(KEY);
    return isLanguage(value) ? value : "python";
  } catch {
    return "python";
  }
}

export function rememberLanguage(store: Store | null, language: Language): void {
  try {
    store?.setItem(KEY, language);
  } catch {
    // It is asked for again next time.
  }
}
