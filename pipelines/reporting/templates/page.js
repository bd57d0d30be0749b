"use strict";
// Everything is there without this script; it sorts tables, and opens what a link leads to.
for (const table of document.querySelectorAll("table.sorts")) {
  const body = table.tBodies[0];
  for (const head of table.tHead.rows[0].cells) {
    head.querySelector("button")?.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => {
        const cell = row.cells[head.cellIndex];
        return cell.dataset.n === undefined ? cell.textContent.trim() : Number(cell.dataset.n);
      };
      const before = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
      const empty = (row) => key(row) === "";
      const rows = [...body.rows].sort((a, b) =>
        empty(a) || empty(b) ? empty(a) - empty(b) : (up ? 1 : -1) * before(key(a), key(b)));
      body.append(...rows);
    });
  }
}
const open = () => {
  let found = location.hash.length > 1 ? document.getElementById(location.hash.slice(1)) : null;
  for (let part = found; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  found?.scrollIntoView();
};
addEventListener("hashchange", open);
open();
