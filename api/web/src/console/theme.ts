export type Theme = "auto" | "light" | "dark";

const STORED = "theme";

export function storedTheme(): Theme {
  const stored = localStorage.getItem(STORED);
  return stored === "light" || stored === "dark" ? stored : "auto";
}

/** Shows the page so, and keeps it for this browser. */
export function useTheme(theme: Theme): void {
  if (theme === "auto") localStorage.removeItem(STORED);
  else localStorage.setItem(STORED, theme);
  showTheme(theme);
}

export function showTheme(theme: Theme): void {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

export function nextTheme(theme: Theme): Theme {
  return ({ auto: "light", light: "dark", dark: "auto" } as const)[theme];
}
