"use strict";
// Draws every figure from the specifications in the page, sorts tables, hands out the data. Nothing is fetched.
(() => {
  const { specs, tables } = JSON.parse(document.getElementById("specs").textContent);
  const themes = JSON.parse(document.getElementById("themes").textContent);
  const AXIS = 66; // pixels of a y axis with its title
  const dark = matchMedia("(prefers-color-scheme: dark)");

  async function draw(node) {
    const spec = structuredClone(specs[node.dataset.figure]);
    const { columns, rows } = tables[spec.data];
    spec.data = { values: rows.map((row) => Object.fromEntries(columns.map((c, i) => [c, row[i]]).filter(([, v]) => v !== null))) };
    const theme = structuredClone(dark.matches ? themes.dark : themes.light);
    const narrow = node.clientWidth < 480;
    if (node.clientWidth < 620) theme.legend.layout = { bottom: { direction: "vertical", margin: 6 } };
    if (narrow) {
      theme.legend.columns = 2;
      for (const { encoding } of (spec.spec ?? spec).layer) if (encoding.color?.legend) encoding.color.legend.columns = 1;
    }
    if (spec.facet) { // panels have no container to fill: what is left beside the axis is shared between them
      spec.columns = narrow ? 1 : spec.columns;
      spec.spec.width = Math.floor((node.clientWidth - AXIS - (spec.columns - 1) * spec.spacing) / spec.columns);
    } else {
      spec.width = "container";
      spec.autosize = { type: "fit-x", contains: "padding" };
    }
    const stage = document.createElement("div");
    node.append(stage);
    try {
      await window.vegaEmbed(stage, spec, {
        renderer: "svg", ast: true, config: theme, downloadFileName: node.dataset.figure,
        actions: { export: true, source: false, compiled: false, editor: false },
      });
      while (node.firstChild !== stage) node.firstChild.remove(); // the still picture, or the other theme
      node.dataset.theme = dark.matches ? "dark" : "light";
      node.dataset.drawn = "yes";
    } catch (error) {
      stage.remove(); // the still picture stays
      console.error(`figure ${node.dataset.figure}: ${error}`);
    }
  }

  const isShown = (node) => !node.closest("details:not([open])"); // a figure in a folded part waits

  let pass = Promise.resolve();
  const drawShown = () => (pass = pass.then(drawAll)); // one after another: unfolding several parts asks several times

  async function drawAll() {
    for (const node of document.querySelectorAll(".plot")) {
      const theme = dark.matches ? "dark" : "light";
      if (isShown(node) && node.dataset.theme !== theme) await draw(node);
    }
    document.documentElement.dataset.drawn = document.querySelectorAll(".plot[data-drawn]").length;
  }

  function sort(header) {
    const table = header.closest("table");
    const column = [...header.parentNode.children].indexOf(header);
    const down = header.getAttribute("aria-sort") === "ascending";
    for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => {
      const cell = row.children[column];
      return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
    };
    const order = (x, y) => {
      if (typeof x === "number" && typeof y === "number") return x - y;
      if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1;
      return x.localeCompare(y, "en", { numeric: true });
    };
    const rows = [...table.tBodies[0].rows].sort((x, y) => (down ? -1 : 1) * order(key(x), key(y)));
    table.tBodies[0].append(...rows);
  }

  function csv(name) {
    const { columns, rows } = tables[specs[name].data];
    const quote = (v) => (v === null ? "" : /[",\n]/.test(v) ? `"${String(v).replaceAll('"', '""')}"` : v);
    const text = [columns, ...rows].map((row) => row.map(quote).join(",")).join("\n");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text + "\n"], { type: "text/csv" }));
    link.download = `${name}.csv`;
    link.click();
    URL.revokeObjectURL(link.href);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.classList.contains("csv")) csv(button.dataset.figure);
    else if (button?.parentNode.tagName === "TH") sort(button.parentNode);
  });
  document.addEventListener("toggle", drawShown, true); // a part was unfolded
  addEventListener("beforeprint", () => document.querySelectorAll("details:not(.plot *)").forEach((part) => (part.open = true)));
  dark.addEventListener("change", drawShown);
  drawShown();
})();
