/** Candidates pasted from a spreadsheet or a CSV file: name and email, one candidate a line. */

export interface Invited {
  line: number;
  name: string;
  email: string;
}

export interface Read {
  invited: Invited[];
  /** Sentences, each with its line. */
  problems: string[];
}

const MOST = 1_000;
const EMAIL = /^[^\s@]+@[^\s@]+$/;
/** What spreadsheets take for the beginning of a formula. */
const FORMULA = /^[=@+\-\t\r\n\uff1d\uff20\uff0b\uff0d]/;

export function readInvited(text: string): Read {
  const rows = rowsOf(text.replace(/^\ufeff/, ""));
  const found: Read = { invited: [], problems: [] };
  const [nameAt, emailAt, hasHead] = columnsOf(rows[0]?.cells ?? []);
  const seen = new Map<string, number>();
  for (const { line, cells } of hasHead ? rows.slice(1) : rows) {
    const [name, email] = [cells[nameAt]?.trim() ?? "", cells[emailAt]?.trim() ?? ""];
    const key = email.toLowerCase();
    const problem = whatIsWrong(name, email, seen.get(key));
    if (problem !== null) found.problems.push(`Line ${line}: ${problem}`);
    else found.invited.push({ line, name, email });
    seen.set(key, seen.get(key) ?? line);
  }
  if (found.invited.length > MOST) found.problems.push(`There are ${found.invited.length} candidates; ${MOST} at a time is the most.`);
  return found;
}

function columnsOf(head: string[]): [number, number, boolean] {
  const names = head.map((cell) => cell.trim().toLowerCase());
  const [name, email] = [names.indexOf("name"), names.indexOf("email")];
  return name >= 0 && email >= 0 ? [name, email, true] : [0, 1, false];
}

function whatIsWrong(name: string, email: string, twin: number | undefined): string | null {
  if (name === "") return "there is no name.";
  if (FORMULA.test(name) || FORMULA.test(email)) return "a cell begins like a formula.";
  if (!EMAIL.test(email)) return email === "" ? "there is no email address." : `${email.slice(0, 60)} is no email address.`;
  return twin === undefined ? null : `${email.slice(0, 60)} is in line ${twin} already.`;
}

/** Rows of CSV, by the separator of the first line: a tab, a semicolon or a comma. Empty rows are left out. */
function rowsOf(text: string): { line: number; cells: string[] }[] {
  const first = text.split("\n", 1)[0]!;
  const separator = first.includes("\t") ? "\t" : first.split(";").length > first.split(",").length ? ";" : ",";
  const rows: { line: number; cells: string[] }[] = [];
  let [line, startedAt, cell, quoted] = [1, 1, "", false];
  let cells: string[] = [];
  const endRow = (): void => {
    cells.push(cell);
    if (cells.some((one) => one.trim() !== "")) rows.push({ line: startedAt, cells });
    [cells, cell, startedAt] = [[], "", line];
  };
  for (let i = 0; i < text.length; i++) {
    const c = text[i]!;
    if (c === "\n") line++;
    if (quoted) {
      if (c !== '"') cell += c;
      else if (text[i + 1] === '"') cell += text[++i]!;
      else quoted = false;
    } else if (c === '"' && cell.trim() === "") [quoted, cell] = [true, ""];
    else if (c === separator) [cells, cell] = [[...cells, cell], ""];
    else if (c === "\n") endRow();
    else if (c !== "\r") cell += c;
  }
  endRow();
  return rows;
}

/** CSV in which no cell is a formula. */
export function csvOf(rows: string[][]): string {
  const quoted = (cell: string): string => `"${(FORMULA.test(cell) ? `'${cell}` : cell).replaceAll('"', '""')}"`;
  return rows.map((cells) => cells.map(quoted).join(",") + "\r\n").join("");
}
