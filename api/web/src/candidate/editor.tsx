// The two fields for answers.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { CodeField } from "./codemirror";
import type { Language } from "./languages";

export const ANSWER_LABEL = "Your answer";

interface FieldProps {
  id: string;
  value: string;
  readOnly: boolean;
  describedBy: string;
  onEdit(text: string): void;
}

/** Grows with its text. Nothing corrects, completes or marks what is typed. */
export function TextAnswer({ id, value, readOnly, describedBy, onEdit }: FieldProps) {
  const area = useRef<HTMLTextAreaElement>(null);
  useLayoutEffect(() => grow(area.current), [value]);
  return (
    <textarea
      ref={area}
      id={id}
      class="text-answer"
      rows={8}
      value={value}
      readOnly={readOnly}
      aria-describedby={describedBy}
      spellcheck={false}
      autocomplete="off"
      autocorrect="off"
      onInput={(event) => onEdit(event.currentTarget.value)}
    />
  );
}

/** Where the style sheet cannot do it by itself. */
function grow(area: HTMLTextAreaElement | null): void {
  if (!area || CSS.supports("field-sizing", "content") || area.scrollHeight <= area.clientHeight) return;
  area.style.height = `${area.scrollHeight + area.offsetHeight - area.clientHeight}px`;
}

interface CodeProps extends FieldProps {
  language: Language;
  nonce: string;
  onSubmit(): void;
}

/** A plain field until the editor is loaded, and for good if it cannot be. What was typed by then is carried over. */
export function CodeAnswer(props: CodeProps) {
  const { id, value, readOnly, describedBy, language, nonce } = props;
  const latest = useRef(props);
  latest.current = props;
  const frame = useRef<HTMLDivElement>(null);
  const plain = useRef<HTMLTextAreaElement>(null);
  const field = useRef<CodeField | null>(null);
  const [isLoaded, setLoaded] = useState(false);

  useEffect(() => {
    let isGone = false;
    const mount = ({ mountCodeField }: typeof import("./codemirror")) => {
      if (isGone || !frame.current) return;
      const hadFocus = document.activeElement === plain.current;
      field.current = mountCodeField({
        parent: frame.current,
        text: latest.current.value,
        cursor: plain.current?.selectionStart ?? 0,
        language: latest.current.language,
        readOnly: latest.current.readOnly,
        label: ANSWER_LABEL,
        describedBy,
        nonce,
        onEdit: (text) => latest.current.onEdit(text),
        onSubmit: () => latest.current.onSubmit(),
      });
      setLoaded(true);
      if (hadFocus) field.current.focus();
    };
    import("./codemirror").then(mount, () => undefined);
    return () => {
      isGone = true;
      field.current?.destroy();
    };
  }, []);
  useEffect(() => field.current?.setReadOnly(readOnly), [readOnly, isLoaded]);
  useEffect(() => void field.current?.setLanguage(language), [language]);

  return (
    <>
      {!isLoaded && (
        <textarea
          ref={plain}
          id={id}
          class="text-answer code-plain"
          rows={12}
          value={value}
          readOnly={readOnly}
          aria-label={ANSWER_LABEL}
          aria-describedby={describedBy}
          spellcheck={false}
          autocomplete="off"
          autocorrect="off"
          autocapitalize="off"
          onInput={(event) => props.onEdit(event.currentTarget.value)}
        />
      )}
      <div ref={frame} class={isLoaded ? "code-field" : ""} />
    </>
  );
}
