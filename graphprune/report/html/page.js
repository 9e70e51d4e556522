"use strict";
// Tables of many rows can be sorted by a button in each heading, and searched. Without a script they stand as they are.
for (const table of document.querySelectorAll("table[data-noun]")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  if (rows.length < 2) continue;

  const key = (row, at) => {
    const cell = row.cells[at];
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  };
  const compare = (at, sign) => (one, two) => {
    const [a, b] = [key(one, at), key(two, at)];
    if (a === "" || b === "") return a === b ? 0 : a === "" ? 1 : -1;
    return sign * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
  };
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, at) => {
    if (rows.some((row) => row.cells[at].querySelector("svg"))) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      body.append(...[...rows].sort(compare(at, up ? 1 : -1)));
    });
  });

  if (rows.length < 8) continue;
  const noun = table.dataset.noun;
  const label = document.createElement("label");
  const search = document.createElement("input");
  const status = document.createElement("span");
  search.type = "search";
  status.setAttribute("role", "status");
  label.append(`Search ${noun} `, search);
  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    status.textContent = `${shown} of ${rows.length} ${noun}`;
  };
  search.addEventListener("input", show);
  show();
  const tools = document.createElement("p");
  tools.className = "tools";
  tools.append(label, status);
  table.parentElement.before(tools);
}
