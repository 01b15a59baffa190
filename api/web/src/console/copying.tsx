import { useRef, useState } from "preact/hooks";

/** A text to be copied: the clipboard is there in secure contexts only, so it can be selected too. */
export function CopyField({ label, text }: { label: string; text: string }) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <div class="copy">
      <input ref={input} type="text" readOnly aria-label={label} value={text} onFocus={(event) => event.currentTarget.select()} />
      <CopyButton label={label} text={text} fallback={() => input.current} />
    </div>
  );
}

interface ButtonProps {
  label: string;
  text: string;
  children?: string;
  fallback?(): HTMLInputElement | HTMLTextAreaElement | null;
}

export function CopyButton({ label, text, children = "Copy", fallback }: ButtonProps) {
  const [said, setSaid] = useState("");
  const copy = async (): Promise<void> => {
    const copied = await write(text, fallback?.() ?? null);
    setSaid(copied ? "Copied" : "Select and copy it");
    setTimeout(() => setSaid(""), 2000);
  };
  return (
    <button type="button" aria-label={`${said || children}: ${label}`} onClick={() => void copy()}>
      <span aria-live="polite">{said || children}</span>
    </button>
  );
}

async function write(text: string, field: HTMLInputElement | HTMLTextAreaElement | null): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    field?.select();
    return field !== null && document.execCommand("copy");
  }
}
