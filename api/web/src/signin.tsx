import { render } from "preact";
import { KeyForm, STORED_KEY } from "./live/KeyForm";

const root = document.getElementById("app")!;

/** Asks for the staff key, and shows the report in the place of this page; links and printing work as on any other. */
async function open(key: string): Promise<void> {
  const response = await fetch(location.href, { headers: { "X-API-Key": key, Accept: "text/html" }, cache: "no-store" });
  if (response.status === 401) {
    sessionStorage.removeItem(STORED_KEY);
    return show(true);
  }
  sessionStorage.setItem(STORED_KEY, key);
  const text = await response.text();
  document.open();
  document.write(text);
  document.close();
  if (response.status === 202) setTimeout(() => void open(key), 2000);
}

function show(wasRefused: boolean): void {
  render(<KeyForm title="Interview report" wasRefused={wasRefused} onKey={(key) => void open(key)} />, root);
}

root.replaceChildren();
const known = sessionStorage.getItem(STORED_KEY);
if (known === null) show(false);
else void open(known);
