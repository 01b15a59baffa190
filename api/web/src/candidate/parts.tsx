// Small parts that several screens share.

import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";

/** The page's one heading. It takes the focus when it appears, so that everybody is where the page is. */
export function Heading({ children, describedBy }: { children: ComponentChildren; describedBy?: string }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    window.scrollTo(0, 0);
    heading.current?.focus({ preventScroll: true });
    document.title = `${heading.current?.textContent ?? ""} – Interview`;
  }, []);
  return (
    <h1 ref={heading} tabIndex={-1} aria-describedby={describedBy}>
      {children}
    </h1>
  );
}

export type Tone = "ok" | "warn" | "bad" | "wait";
const SIGNS: Record<Tone, string> = { ok: "✓", warn: "!", bad: "✕", wait: "…" };

/** How something stands, in words; colour and sign only help. */
export function Status({ tone, children }: { tone: Tone; children: ComponentChildren }) {
  return (
    <p class={`status status-${tone}`} role="status">
      <span class="status-sign" aria-hidden="true">
        {SIGNS[tone]}
      </span>
      <span>{children}</span>
    </p>
  );
}

interface ConfirmProps {
  title: string;
  confirm: string;
  cancel: string;
  isDangerous?: boolean;
  children: ComponentChildren;
  onConfirm(): void;
  onCancel(): void;
}

/** A question in a dialog of its own. Esc is "no". */
export function Confirm({ title, confirm, cancel, isDangerous, children, onConfirm, onCancel }: ConfirmProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [titleId, textId] = [useId(), useId()];
  useEffect(() => {
    const opener = document.activeElement;
    dialog.current?.showModal();
    return () => {
      dialog.current?.close();
      if (opener instanceof HTMLElement) opener.focus({ preventScroll: true });
    };
  }, []);
  const dismiss = (event: Event) => {
    event.preventDefault();
    onCancel();
  };
  return (
    <dialog ref={dialog} aria-labelledby={titleId} aria-describedby={textId} onCancel={dismiss}>
      <h2 id={titleId}>{title}</h2>
      <div id={textId}>{children}</div>
      <div class="dialog-buttons">
        <button type="button" onClick={onCancel}>
          {cancel}
        </button>
        <button type="button" class={isDangerous ? "danger primary" : "primary"} onClick={onConfirm}>
          {confirm}
        </button>
      </div>
    </dialog>
  );
}

/** The camera as in a mirror, which is how people know themselves. */
export function Mirror({ stream, label, class: name }: { stream: MediaStream; label: string; class: string }) {
  const video = useRef<HTMLVideoElement>(null);
  const track = stream.getVideoTracks()[0];
  useEffect(() => {
    if (!video.current) return;
    video.current.srcObject = stream;
    video.current.play().catch(() => undefined);
  }, [stream, track]);
  return <video ref={video} class={`mirror ${name}`} aria-label={label} muted autoplay playsInline />;
}

/** One screen before or after the questions. */
export function Sheet({ step, of, children }: { step?: number; of?: number; children: ComponentChildren }) {
  return (
    <>
      <header class="bar bar-plain">
        <div class="bar-in">
          <p class="bar-name">Interview</p>
          {step !== undefined && (
            <p class="bar-step">
              Step {step} of {of}
            </p>
          )}
        </div>
      </header>
      <main class="sheet">{children}</main>
    </>
  );
}
