import { render } from "preact";
import "./base.css";
import "./live.css";
import { App } from "./live/App";

const config = JSON.parse(document.getElementById("config")!.textContent!) as { session_id: string };
const root = document.getElementById("app")!;
root.replaceChildren();
render(<App sessionId={config.session_id} />, root);
