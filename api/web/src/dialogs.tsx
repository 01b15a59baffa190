import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

const MOST_SECONDS = 86_400;

export interface Shared {
  busy: boolean;
  error: string;
  onCancel(): void;
}

export function ExtendDialog({ name, onExtend, ...shared }: Shared & { name?: string; onExtend(body: { seconds: number; reason: string }): void }) {
  const [minutes, setMinutes] = useState("5");
  const [seconds, setSeconds] = useState("0");
  const [reason, setReason] = useState("");
  const [wrong, setWrong] = useState("");
  const submit = (): void => {
    const total = Number(minutes) * 60 + Number(seconds);
    const found = whatIsWrong(total, reason);
    setWrong(found);
    if (found === "") onExtend({ seconds: total, reason: reason.trim() });
  };
  return (
    <Dialog title="More time for the open question" action="Extend" {...shared} error={wrong || shared.error} onSubmit={submit}>
      {name !== undefined && <p class="muted">{name}</p>}
      <div class="amount">
        <Field id="minutes" label="Minutes" inputMode="decimal" value={minutes} onText={setMinutes} />
        <Field id="seconds" label="Seconds" inputMode="decimal" value={seconds} onText={setSeconds} />
      </div>
      <Field id="reason" label="Reason" maxLength={500} required value={reason} onText={setReason} />
    </Dialog>
  );
}

function whatIsWrong(seconds: number, reason: string): string {
  if (!(seconds > 0 && seconds <= MOST_SECONDS)) return "Give a time from one second to 24 hours.";
  return reason.trim() === "" ? "Give a reason; it is kept in the journal." : "";
}

export function EndDialog({ name, started, onEnd, ...shared }: Shared & { name?: string; started: boolean; onEnd(body: object): void }) {
  const [reason, setReason] = useState("");
  const submit = (): void => onEnd(reason.trim() === "" ? {} : { reason: reason.trim() });
  return (
    <Dialog title={started ? "End this interview?" : "End this interview before it starts?"} action="End the interview" danger {...shared} onSubmit={submit}>
      {name !== undefined && <p class="muted">{name}</p>}
      <p>
        {started
          ? "The open question is closed with what was typed so far. The interview cannot be continued."
          : "It cannot be started any more then."}
      </p>
      <Field id="reason" label="Reason (optional)" maxLength={500} value={reason} onText={setReason} />
    </Dialog>
  );
}

interface DialogProps extends Shared {
  title: string;
  /** What the button says; none: there is nothing to submit. */
  action?: string;
  cancel?: string;
  danger?: boolean;
  wide?: boolean;
  onSubmit?(): void;
  children: ComponentChildren;
}

export function Dialog({ title, action, cancel = "Cancel", danger, wide, busy, error, onCancel, onSubmit, children }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const opener = document.activeElement as HTMLElement | null;
    dialog.current!.showModal();
    // A dialog that is taken out of the page does not give the focus back by itself.
    return () => (opener?.matches(":disabled") ? document.querySelector("main") : opener)?.focus();
  }, []);
  const submit = (event: Event): void => {
    event.preventDefault();
    onSubmit?.();
  };
  return (
    <dialog ref={dialog} class={wide ? "wide" : undefined} aria-labelledby="dialog-title" onClose={onCancel}>
      <form onSubmit={submit} noValidate>
        <h2 id="dialog-title">{title}</h2>
        {children}
        {error !== "" && (
          <p class="error" role="alert">
            {error}
          </p>
        )}
        <div class="dialog-buttons">
          <button type="button" onClick={onCancel}>
            {cancel}
          </button>
          {action !== undefined && (
            <button type="submit" class={danger ? "primary danger" : "primary"} aria-busy={busy}>
              {action}
            </button>
          )}
        </div>
      </form>
    </dialog>
  );
}

interface FieldProps {
  id: string;
  label: string;
  value: string;
  onText(text: string): void;
  inputMode?: "decimal" | "email";
  maxLength?: number;
  required?: boolean;
}

export function Field({ id, label, onText, ...input }: FieldProps) {
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input id={id} type="text" autocomplete="off" {...input} onInput={(event) => onText(event.currentTarget.value)} />
    </div>
  );
}
