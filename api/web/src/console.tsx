import { render } from "preact";
import "./base.css";
import "./console.css";
import { App } from "./console/App";
import { showTheme, storedTheme } from "./console/theme";

showTheme(storedTheme());
const root = document.getElementById("app")!;
root.replaceChildren();
render(<App />, root);
