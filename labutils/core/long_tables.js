// Tables of notebooks sort by a click on a heading, and long ones filter. Without this script they are plain tables.
// A long table's output carries it; on the site it is loaded for the short ones too.
(function () {
  "use strict";
  const WORTH_SORTING = 6, WORTH_FILTERING = 20; // rows
  const OUTPUTS = ".long-table table, .cell_output table"; // what a notebook marked, and all of the site's
  const STYLE = `
    th button.sorts { all: unset; cursor: pointer; font-weight: inherit; }
    th button.sorts:focus-visible { outline: 2px solid; }
    th button.sorts::after { content: " ↕"; font-weight: 400; }
    th[aria-sort="ascending"] button.sorts::after { content: " ↑"; }
    th[aria-sort="descending"] button.sorts::after { content: " ↓"; }
    .table-filter { display: block; font-size: 0.875rem; margin: 0.25rem 0; }
    .table-filter input {
      font: inherit; padding: 0.2rem 0.4rem; max-width: 14rem; border: 1px solid #666; border-radius: 0.3rem;
    }`;

  // A number with a true minus, maybe with an interval or a unit behind it; NaN for anything else.
  function leading(text) {
    const found = text.trim().replaceAll("−", "-").match(/^[+-]?(\d[\d,]*\.?\d*|\.\d+)(e[+-]?\d+)?/i);
    return found ? Number(found[0].replaceAll(",", "")) : NaN;
  }
  function compare(a, b, numbers) {
    if (!numbers) return a.localeCompare(b, "en", { numeric: true });
    const [x, y] = [leading(a), leading(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? Number.isNaN(x) - Number.isNaN(y) : x - y;
  }

  // Tables whose cells span rows or columns have no order of their own to change.
  function isPlain(table) {
    const heads = table.tHead && table.tHead.rows;
    if (!heads || heads.length !== 1 || table.tBodies.length !== 1) return false;
    const width = heads[0].cells.length;
    return Array.from(table.rows).every(
      (row) => row.cells.length === width && Array.from(row.cells).every((cell) => cell.rowSpan * cell.colSpan === 1));
  }

  function sortable(table) {
    const body = table.tBodies[0], heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach((head, column) => {
      const name = head.textContent.trim(), button = document.createElement("button");
      button.type = "button";
      button.className = "sorts";
      button.textContent = name;
      if (!name) button.setAttribute("aria-label", "sort by column " + (column + 1));
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending", rows = Array.from(body.rows);
        const text = (row) => row.cells[column].textContent;
        const written = rows.map(text).filter((each) => each.trim() && !/^(nan|—|–|-)$/i.test(each.trim()));
        const numbers = written.length > 0 && written.every((each) => !Number.isNaN(leading(each)));
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        rows.sort((a, b) => compare(text(a), text(b), numbers) * (down ? -1 : 1));
        body.append(...rows);
      });
    });
  }

  function filterable(table) {
    const rows = Array.from(table.tBodies[0].rows), field = document.createElement("input");
    const label = document.createElement("label"), count = document.createElement("output");
    field.type = "search";
    label.className = "table-filter";
    label.append("rows with ", field, " ", count);
    table.before(label);
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
      count.value = rows.filter((row) => !row.hidden).length + " of " + rows.length;
    });
  }

  function upgrade() {
    if (!document.getElementById("long-tables")) {
      const style = document.createElement("style");
      style.id = "long-tables";
      style.textContent = STYLE;
      document.head.append(style);
    }
    for (const table of document.querySelectorAll(OUTPUTS)) {
      if (!isPlain(table) || table.querySelector("button.sorts")) continue;
      const length = table.tBodies[0].rows.length;
      if (length >= WORTH_SORTING) sortable(table);
      if (length >= WORTH_FILTERING) filterable(table);
    }
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", upgrade);
  else upgrade();
})();
