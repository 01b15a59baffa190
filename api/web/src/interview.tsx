// /interview/{id}#token: the page on which a candidate takes an interview.

import { render } from "preact";
import { authorize } from "./api";
import "./base.css";
import { App } from "./candidate/app";
import { Incomplete } from "./candidate/ending";
import type { PageConfig } from "./candidate/types";
import "./interview.css";

const config = JSON.parse(document.getElementById("config")?.textContent ?? "{}") as PageConfig;
const token = location.hash.slice(1).trim();
const root = freshRoot();

// Another link to the same interview, pasted into this tab, changes only the fragment.
window.addEventListener("hashchange", () => location.reload());

if (token === "") {
  render(<Incomplete />, root);
} else {
  authorize({ token });
  render(<App config={config} token={token} store={storage()} />, root);
}

/** What the page brings is for browsers without JavaScript; the screens have a header and a main part of their own. */
function freshRoot(): HTMLElement {
  const div = document.createElement("div");
  const given = document.getElementById("app");
  if (given) given.replaceWith(div);
  else document.body.append(div);
  return div;
}

/** A browser may keep it from us. */
function storage(): Storage | null {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}
