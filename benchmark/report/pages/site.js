"use strict";
// Sorting and filtering of a study's table, and the figure viewer. Without this script the pages
// hold the same content: the table in its own order, and figures that link to their files.

for (const table of document.querySelectorAll("table.data")) sortable(table);
for (const form of document.querySelectorAll("form.controls")) filterable(form);
for (const dialog of document.querySelectorAll("dialog.viewer")) viewer(dialog);

/** Headings sort: ascending, descending, the original order. Missing numbers come last. */
function sortable(table) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const words = new Intl.Collator("en", { numeric: true });
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const numeric = "numeric" in heading.dataset;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: "" };
      const order = next[heading.getAttribute("aria-sort")] ?? "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      if (order) heading.setAttribute("aria-sort", order);
      const sign = order === "descending" ? -1 : 1;
      const value = (row) => row.cells[column].dataset.value;
      const compare = (a, b) => {
        if (!numeric) return sign * words.compare(a.cells[column].textContent, b.cells[column].textContent);
        if (value(a) === undefined || value(b) === undefined)
          return (value(a) === undefined) - (value(b) === undefined);
        return sign * (Number(value(a)) - Number(value(b)));
      };
      body.append(...(order ? [...original].sort(compare) : original));
    });
  });
}

/** Show the rows that hold every word of the text, of the chosen task and methods. */
function filterable(form) {
  const rows = [...document.querySelector("table.data").tBodies[0].rows];
  const update = () => {
    const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const task = form.elements.task ? form.elements.task.value : "";
    const methods = new Set(
      [...form.querySelectorAll("input[name=method]:checked")].map((box) => box.value),
    );
    let shown = 0;
    for (const row of rows) {
      const text = [...row.cells].slice(0, 3).map((cell) => cell.textContent).join(" ").toLowerCase();
      row.hidden = !(
        words.every((word) => text.includes(word)) &&
        (!task || row.dataset.task === task) &&
        methods.has(row.dataset.method)
      );
      shown += !row.hidden;
    }
    form.elements.shown.value = `${shown} of ${rows.length} rows`;
  };
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  update();
}

/** Figures open in a dialog: arrows go on, space or a click changes the size, Escape closes. */
function viewer(dialog) {
  const links = [...document.querySelectorAll("a.zoom")];
  const stage = dialog.querySelector(".stage");
  const image = stage.querySelector("img");
  const pdf = dialog.querySelector(".pdf");
  const size = dialog.querySelector("[data-do=size]");
  let current = 0;

  const resize = (actual) => {
    stage.classList.toggle("actual", actual);
    size.setAttribute("aria-pressed", String(actual));
  };
  const show = (index) => {
    current = (index + links.length) % links.length;
    const link = links[current];
    image.src = link.href;
    image.alt = link.dataset.title;
    dialog.querySelector(".title").textContent = link.dataset.title;
    pdf.hidden = !link.dataset.pdf;
    if (link.dataset.pdf) pdf.href = link.dataset.pdf;
    resize(false);
  };
  const actions = {
    previous: () => show(current - 1),
    next: () => show(current + 1),
    size: () => resize(!stage.classList.contains("actual")),
    close: () => dialog.close(),
  };

  links.forEach((link, index) =>
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      show(index);
      dialog.showModal();
      stage.focus();
    }),
  );
  for (const button of dialog.querySelectorAll("[data-do]"))
    button.addEventListener("click", actions[button.dataset.do]);
  stage.addEventListener("click", actions.size);
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft" && !stage.classList.contains("actual")) actions.previous();
    else if (event.key === "ArrowRight" && !stage.classList.contains("actual")) actions.next();
    else if (event.key === " " && event.target === stage) {
      event.preventDefault();
      actions.size();
    }
  });
  dialog.addEventListener("close", () => links[current].focus());
}
