import { useEffect, useRef } from "preact/hooks";

/** Where a tab keeps it. */
export const STORED_KEY = "staff-key";

/** Asks staff for their key. */
export function KeyForm(props: { title: string; wasRefused: boolean; onKey(key: string): void }) {
  const { title, wasRefused, onKey } = props;
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => input.current?.focus(), [wasRefused]);
  const submit = (event: Event): void => {
    event.preventDefault();
    const key = input.current!.value.trim();
    if (key !== "") onKey(key);
  };
  return (
    <form class="key-form panel" onSubmit={submit}>
      <h1>{title}</h1>
      <p>This page is for staff. The key is kept until this tab is closed.</p>
      {wasRefused && (
        <p id="key-error" class="error" role="alert">
          This key was not accepted. Check it and try again.
        </p>
      )}
      <label for="key">Staff key</label>
      <input
        ref={input}
        id="key"
        type="password"
        autocomplete="off"
        required
        aria-invalid={wasRefused}
        aria-describedby={wasRefused ? "key-error" : undefined}
      />
      <button type="submit" class="primary">
        Open
      </button>
    </form>
  );
}
