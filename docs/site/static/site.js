// Sorting and filtering of the claims, and choosing a method. Without this script the pages are plain tables.
(function () {
  "use strict";

  function setUpClaims(table, form) {
    const bodies = Array.from(table.tBodies);
    const fields = form.elements;
    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());

    function outcomesOn(body, model) {
      const pairs = body.dataset.outcomes.split("|").map((pair) => pair.split("="));
      return pairs.filter(([name]) => !model || name === model).flatMap(([, found]) => found.split("/"));
    }
    function judged(body, model) {
      return outcomesOn(body, model).some((outcome) => outcome !== "not yet tested");
    }
    function matches(body) {
      const words = fields.words.value.toLowerCase().split(/\s+/).filter(Boolean);
      const text = body.textContent.toLowerCase();
      if (!words.every((word) => text.includes(word))) return false;
      if (fields.paper.value && !body.dataset.paper.split("; ").includes(fields.paper.value)) return false;
      const model = fields.model.value, outcome = fields.outcome.value;
      if (outcome === "not yet tested") return !judged(body, model);
      if (outcome) return outcomesOn(body, model).includes(outcome);
      return !model || judged(body, model);
    }
    function filter() {
      let shown = 0;
      for (const body of bodies) {
        body.hidden = !matches(body);
        shown += body.hidden ? 0 : 1;
      }
      fields.count.value = shown + " of " + bodies.length + " claims";
    }
    form.addEventListener("input", filter);
    form.addEventListener("reset", () => setTimeout(filter));

    for (const head of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const column = Number(head.dataset.column);
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (body) => body.rows[0].cells[column].dataset.sort;
        bodies.sort((a, b) => key(a).localeCompare(key(b), "en") * (down ? -1 : 1));
        table.append(...bodies);
      });
    }

    function open() {
      const body = document.getElementById(location.hash.slice(1));
      const details = body && body.querySelector && body.querySelector("details");
      if (!details || !bodies.includes(body)) return;
      if (body.hidden) { form.reset(); }
      details.open = true;
      body.scrollIntoView();
    }
    window.addEventListener("hashchange", open);
    filter();
    open();
  }

  function setUpMethods(form, answer, rows) {
    form.hidden = answer.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    const chosen = (name) => form.elements[name].value;
    const same = (row, names) => names.every((name) => row.dataset[name] === chosen(name));
    const tell = (text, list) => {
      const head = document.createElement("p");
      head.textContent = text;
      const items = document.createElement("ul");
      for (const row of list) {
        const item = document.createElement("li");
        item.textContent = row.dataset.told + " (" + row.dataset.study + ")";
        items.append(item);
      }
      answer.replaceChildren(head, items);
    };
    function update() {
      const alike = rows.filter((row) => same(row, ["kind", "size"]));
      const fits = alike.filter((row) => same(row, ["zeros", "budget"]));
      const far = rows.filter((row) => same(row, ["zeros", "budget"]));
      if (fits.length) tell("On models like yours:", fits);
      else if (alike.length) {
        const shares = [...new Set(alike.map((row) => row.dataset.zeros))].join(", ");
        tell("On models like yours this was not measured; measured shares of zeros: " + shares + ".", []);
      } else tell("We have no model like yours. On models of another kind or size" + (far.length ? ":" : ", nothing."), far);
    }
    form.addEventListener("input", update);
    update();
  }

  document.addEventListener("DOMContentLoaded", () => {
    // The theme leaves the buttons that open a part of the navigation without a name.
    for (const toggle of document.querySelectorAll("summary > .toctree-toggle")) {
      toggle.parentElement.setAttribute("aria-label", "pages below");
    }
    const table = document.getElementById("claims-table"), form = document.getElementById("claims-filters");
    if (table && form) setUpClaims(table, form);
    const choice = document.getElementById("method-form"), answer = document.getElementById("method-answer");
    if (choice && answer) setUpMethods(choice, answer, Array.from(document.querySelectorAll(".answers tr[data-told]")));
  });
})();
