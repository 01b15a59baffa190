// The code editor itself. Loaded only when a coding question comes; editor.tsx has a text field until then.

import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import {
  bracketMatching,
  HighlightStyle,
  indentOnInput,
  indentUnit,
  StreamLanguage,
  syntaxHighlighting,
} from "@codemirror/language";
import type { Extension } from "@codemirror/state";
import { Compartment, EditorState, Prec } from "@codemirror/state";
import { EditorView, highlightActiveLine, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import type { Language } from "./languages";

export interface CodeField {
  focus(): void;
  setLanguage(language: Language): Promise<void>;
  setReadOnly(readOnly: boolean): void;
  destroy(): void;
}

export interface CodeFieldOptions {
  parent: HTMLElement;
  text: string;
  /** Where the cursor is. */
  cursor: number;
  language: Language;
  readOnly: boolean;
  label: string;
  describedBy: string;
  nonce: string;
  onEdit(text: string): void;
  onSubmit(): void;
}

const NARROW = "(max-width: 47.99rem)";

/** Each language is a file of its own, so that nobody waits for the others. */
const GRAMMARS: Partial<Record<Language, () => Promise<Extension>>> = {
  python: async () => (await import("@codemirror/lang-python")).python(),
  javascript: async () => (await import("@codemirror/lang-javascript")).javascript({ jsx: true }),
  typescript: async () => (await import("@codemirror/lang-javascript")).javascript({ typescript: true, jsx: true }),
  java: async () => (await import("@codemirror/lang-java")).java(),
  c: async () => (await import("@codemirror/lang-cpp")).cpp(),
  cpp: async () => (await import("@codemirror/lang-cpp")).cpp(),
  csharp: async () => StreamLanguage.define((await import("@codemirror/legacy-modes/mode/clike")).csharp),
  go: async () => (await import("@codemirror/lang-go")).go(),
  rust: async () => (await import("@codemirror/lang-rust")).rust(),
  kotlin: async () => StreamLanguage.define((await import("@codemirror/legacy-modes/mode/clike")).kotlin),
  swift: async () => StreamLanguage.define((await import("@codemirror/legacy-modes/mode/swift")).swift),
  ruby: async () => StreamLanguage.define((await import("@codemirror/legacy-modes/mode/ruby")).ruby),
  sql: async () => (await import("@codemirror/lang-sql")).sql(),
  shell: async () => StreamLanguage.define((await import("@codemirror/legacy-modes/mode/shell")).shell),
};

const FOUR_SPACES: readonly Language[] = ["python", "java", "c", "cpp", "csharp", "rust", "kotlin", "swift"];

// Colours are variables of interview.css, which has them for light and for dark.
const COLOURS = HighlightStyle.define([
  { tag: [tags.keyword, tags.modifier, tags.operatorKeyword, tags.controlKeyword], color: "var(--code-keyword)" },
  { tag: [tags.string, tags.special(tags.string), tags.character, tags.regexp], color: "var(--code-string)" },
  { tag: [tags.number, tags.bool, tags.null, tags.atom], color: "var(--code-number)" },
  { tag: [tags.comment], color: "var(--code-comment)", fontStyle: "italic" },
  { tag: [tags.typeName, tags.className, tags.namespace, tags.standard(tags.name)], color: "var(--code-type)" },
  { tag: [tags.definition(tags.variableName), tags.function(tags.variableName), tags.meta], color: "var(--code-name)" },
]);

const THEME = EditorView.theme({
  "&": { backgroundColor: "var(--surface)", color: "var(--text)", fontSize: "1rem" },
  "&.cm-focused": { outline: "none" }, // the frame around it has the outline
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.6" },
  ".cm-content": { caretColor: "var(--text)", padding: "0.75rem 0" },
  ".cm-gutters": { backgroundColor: "var(--bg)", color: "var(--muted)", border: "none" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "var(--code-line)" },
  "&.cm-focused .cm-matchingBracket": { backgroundColor: "var(--code-match)", color: "inherit" },
  "&.cm-focused .cm-nonmatchingBracket": { backgroundColor: "transparent", color: "var(--danger)" },
});

export function mountCodeField(options: CodeFieldOptions): CodeField {
  const [grammar, access, wrapping] = [new Compartment(), new Compartment(), new Compartment()];
  const narrow = matchMedia(NARROW);
  const wrap = () => (narrow.matches ? EditorView.lineWrapping : []);
  const view = new EditorView({
    parent: options.parent,
    state: EditorState.create({
      doc: options.text,
      selection: { anchor: Math.min(options.cursor, options.text.length) },
      extensions: [
        lineNumbers(),
        history(),
        bracketMatching(),
        indentOnInput(),
        highlightActiveLine(),
        Prec.highest(keymap.of(submitKeys(options.onSubmit))),
        keymap.of([...defaultKeymap, ...historyKeymap, indentWithTab]),
        syntaxHighlighting(COLOURS),
        THEME,
        EditorView.cspNonce.of(options.nonce),
        EditorView.contentAttributes.of({ "aria-label": options.label, "aria-describedby": options.describedBy }),
        EditorView.updateListener.of((update) => {
          if (update.docChanged) options.onEdit(update.state.doc.toString());
        }),
        grammar.of([]),
        access.of(accessOf(options.readOnly)),
        wrapping.of(wrap()),
      ],
    }),
  });
  const rewrap = () => view.dispatch({ effects: wrapping.reconfigure(wrap()) });
  narrow.addEventListener("change", rewrap);
  let wanted: Language;
  const setLanguage = async (language: Language) => {
    wanted = language;
    const found = await grammarOf(language);
    if (language === wanted) view.dispatch({ effects: grammar.reconfigure(found) });
  };
  void setLanguage(options.language);
  return {
    focus: () => view.focus(),
    setLanguage,
    setReadOnly: (readOnly) => view.dispatch({ effects: access.reconfigure(accessOf(readOnly)) }),
    destroy() {
      narrow.removeEventListener("change", rewrap);
      view.destroy();
    },
  };
}

/** Without its grammar a language is plain text: better than no editor. */
async function grammarOf(language: Language): Promise<Extension> {
  const indent = indentUnit.of(" ".repeat(FOUR_SPACES.includes(language) ? 4 : 2));
  try {
    return [indent, (await GRAMMARS[language]?.()) ?? []];
  } catch {
    return indent;
  }
}

function accessOf(readOnly: boolean): Extension {
  const aria = EditorView.contentAttributes.of({ "aria-readonly": String(readOnly) });
  return [EditorState.readOnly.of(readOnly), aria];
}

function submitKeys(onSubmit: () => void) {
  const run = () => {
    onSubmit();
    return true;
  };
  return [
    { key: "Ctrl-Enter", run },
    { key: "Mod-Enter", run },
  ];
}
