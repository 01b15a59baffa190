import { useEffect, useRef } from "preact/hooks";

/** Asks staff for their key. */
export function KeyForm({ wasRefused, onKey }: { wasRefused: boolean; onKey(key: string): void }) {
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => input.current?.focus(), [wasRefused]);
  const submit = (event: Event): void => {
    event.preventDefault();
    const key = input.current!.value.trim();
    if (key !== "") onKey(key);
  };
  return (
    <form class="key-form panel" onSubmit={submit}>
      <h1>Live view of an interview</h1>
      <p>This view is for staff. The key is kept until this tab is closed.</p>
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
