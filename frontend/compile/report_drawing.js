"use strict";
// Part of report.js: a stage drawn in layers. The places come with the data (drawing.py), in boxes; here they become pixels.

const BOX = { width: 152, height: 34, across: 172, down: 62, margin: 20 };
const drawn = { stage: "", scope: "", view: null, whole: null, height: 0 };

// Ops that say little about a group beside others.
const PLAIN = new Set(["full", "iota", "reshape", "permute", "expand", "slice", "convert"]);

const stageNamed = (name) => state.graph.stages.find((stage) => stage.name === name);
const inScope = (path, scope) => scope === "" || path === scope || path.startsWith(scope + "/");

function showDrawingChoices() {
  const names = Object.keys(state.graph.drawings || {}).reverse();
  byId("drawn-stage").replaceChildren(...names.map((name) => make("option", { value: name }, name)));
  if (!names.length) {
    byId("drawing").replaceChildren(make("p", { class: "hint" },
      "The graph is drawn where igraph is installed when the report is made: pip install 'vitrify[report]'."));
    byId("drawing-controls").hidden = true;
    return;
  }
  byId("drawing-controls").hidden = false;
  drawn.height = 0;
  enterScope(names[0], "");
}

function enterScope(stage, scope) {
  Object.assign(drawn, { stage, scope, view: null });
  byId("drawn-stage").value = stage;
  showDrawing();
}

/** What each box stands for: nodes of the stage. */
function boxNodes(box, stage, drawing) {
  if (box.node !== undefined) return [stage.nodes[box.node]];
  return stage.nodes.filter((node) => inScope(drawing.paths[node.id], box.scope));
}

function selectBox(box, nodes) {
  if (box.node !== undefined) return selectNode(nodes[0]);
  const inner = nodes.flatMap((node) => (node.body.length ? node.body : [node]));
  const values = new Set(inner.map(valueKey));
  select({
    title: box.scope, values, places: new Set(inner.filter((node) => node.file != null).map(placeKey)),
    groups: each(state.index.groupsOf, values),
  });
}

/** The two lines of a box, and the whole story for its title. */
function boxText(box, nodes) {
  if (box.scope !== undefined) {
    const lines = [box.scope.split("/").pop(), box.outside ? "outside" : counted(nodes.length, "op")];
    return [...lines, box.scope.replaceAll("/", " · ")];
  }
  const [node] = nodes;
  const group = node.body.length ? state.index.group.get(node.attrs.name) : null;
  const types = node.outputs.map((value) => `%${value.name}: ${value.type}`).join("\n");
  const module = node.module.split(" ")[0].split(".").pop();
  const of = module && !drawn.scope.split("/").includes(module) ? module + " · " : "";
  if (!group) return [node.op, of + node.outputs[0].type, `%${node.outputs[0].name} = ${node.op}\n${types}\n${placeText(node)}`];
  const time = groupSeconds(group);
  const second = time === null ? group.kind : `${group.kind} · ${timeText(time)}`;
  const telling = group.ops.filter((op) => !PLAIN.has(op));
  return [opsText({ ops: telling.length ? telling : group.ops }), second, `${group.name} (${group.kind})\n${opsText(group)}\n${types}\n${placeText(node)}`];
}

const shortened = (text, length) => (text.length > length ? text.slice(0, length - 1) + "…" : text);

function showDrawing() {
  const stage = stageNamed(drawn.stage), drawing = state.graph.drawings[drawn.stage];
  const scope = drawing.scopes[drawn.scope];
  const parts = drawn.scope === "" ? [] : drawn.scope.split("/");
  byId("drawn-path").replaceChildren(
    make("button", { onclick: () => enterScope(drawn.stage, "") }, state.graph.name),
    ...parts.flatMap((part, i) => {
      const path = parts.slice(0, i + 1).join("/");
      return [" / ", path in drawing.scopes ? make("button", { onclick: () => enterScope(drawn.stage, path) }, part) : part];
    }));
  byId("drawing-facts").textContent =
    `${counted(scope.nodes, "op")}${scope.flat ? "" : ", by module; open a box to see inside"}. Drag to move, wheel or − + to zoom.`;

  const x = (place) => BOX.margin + BOX.width / 2 + place * BOX.across;
  const y = (place) => BOX.margin + BOX.height / 2 + place * BOX.down;
  const svg = makeSvg("svg", { role: "img", "aria-label": `${drawn.stage} graph in layers`, tabindex: "0" });
  const half = BOX.height / 2;
  for (const edge of scope.edges) {
    const a = scope.boxes[edge.from], b = scope.boxes[edge.to];
    const down = b.y > a.y ? 1 : -1;
    const points = [[x(a.x), y(a.y) + down * half], ...edge.points.map(([px, py]) => [x(px), y(py)]), [x(b.x), y(b.y) - down * half]];
    svg.append(makeSvg("path", { class: "edge", d: curve(points) + arrow(points.at(-1), down) }, makeSvg("title", {}, edge.types.join("\n"))));
  }
  for (const box of scope.boxes) {
    const nodes = boxNodes(box, stage, drawing);
    const [first, second, title] = boxText(box, nodes);
    const kind = nodes[0].body.length && box.node !== undefined ? nodes[0].attrs.kind : "";
    const left = x(box.x) - BOX.width / 2, top = y(box.y) - half;
    const shape = makeSvg("g", {
      class: `box ${box.scope !== undefined ? "scope" : ""} ${box.outside ? "outside" : ""}`, transform: `translate(${left} ${top})`,
      onclick: () => selectBox(box, nodes), ondblclick: () => { if (box.scope in drawing.scopes) enterScope(drawn.stage, box.scope); },
    },
    makeSvg("rect", { width: BOX.width, height: BOX.height, rx: 5, ...(kind && { style: `--kind: ${colorOf(kind)}` }) }),
    makeSvg("text", { x: 8, y: 14, class: "name" }, shortened(first, 19)),
    makeSvg("text", { x: 8, y: 27 }, shortened(second, 25)), makeSvg("title", {}, title));
    if (box.scope in drawing.scopes) {
      shape.append(makeSvg("text", {
        x: BOX.width - 8, y: 27, class: "open", "text-anchor": "end", role: "button", tabindex: "0",
        onclick: (event) => { event.stopPropagation(); enterScope(drawn.stage, box.scope); },
        onkeydown: (event) => { if (event.key === "Enter") enterScope(drawn.stage, box.scope); },
      }, "open ▸"));
    }
    shape.nodes = nodes;
    svg.append(shape);
  }
  const last = (key) => Math.max(0, ...scope.boxes.map((box) => box[key]), ...scope.edges.flatMap((edge) => edge.points.map((p) => p[key === "x" ? 0 : 1])));
  drawn.whole = { x: 0, y: 0, width: x(last("x")) + BOX.width / 2 + BOX.margin, height: y(last("y")) + half + BOX.margin };
  // A small graph needs no more; what is below does not move up again when a box is opened.
  drawn.height = Math.max(drawn.height, Math.ceil(drawn.whole.height), 160);
  svg.style.height = `min(70vh, ${drawn.height}px)`;
  byId("drawing").replaceChildren(svg);
  drawn.view = startView(svg);
  setView();
  listen(svg);
  markDrawing();
}

/** A smooth line through the points: vertical where it meets a layer. */
function curve(points) {
  let text = `M${points[0][0]} ${points[0][1]}`;
  for (let i = 1; i < points.length; i++) {
    const [ax, ay] = points[i - 1], [bx, by] = points[i];
    const middle = (ay + by) / 2;
    text += ax === bx ? ` L${bx} ${by}` : ` C${ax} ${middle} ${bx} ${middle} ${bx} ${by}`;
  }
  return text;
}

/** The head of a line that ends at a box from above (down 1) or below (-1). */
const arrow = ([x, y], down) => ` M${x - 4} ${y - 7 * down} L${x} ${y} L${x + 4} ${y - 7 * down}`;

/** At first the boxes are of a size that can be read, from the top; a small graph is seen whole. */
function startView(svg) {
  const { width, height } = svg.getBoundingClientRect();
  const { whole } = drawn;
  if (!width || (whole.width <= width && whole.height <= height)) return around(whole, width || whole.width, height || whole.height, 1);
  return { x: Math.max(0, (whole.width - width) / 2), y: 0, width, height };
}

function around(whole, width, height, scale) {
  const view = { width: width / scale, height: height / scale };
  return { x: (whole.width - view.width) / 2, y: Math.min(0, (whole.height - view.height) / 2), ...view };
}

function setView() {
  const { x, y, width, height } = drawn.view;
  byId("drawing").firstElementChild.setAttribute("viewBox", `${x} ${y} ${width} ${height}`);
}

/** Zooms by a factor; the point at these shares of the width and height stays where it is. */
function zoom(factor, atX = 0.5, atY = 0.5) {
  const { view } = drawn;
  const width = Math.min(Math.max(view.width * factor, 200), 40 * drawn.whole.width);
  const height = view.height * (width / view.width);
  drawn.view = { x: view.x + (view.width - width) * atX, y: view.y + (view.height - height) * atY, width, height };
  setView();
}

function fitDrawing() {
  const { width, height } = byId("drawing").firstElementChild.getBoundingClientRect();
  const scale = Math.min(width / drawn.whole.width, height / drawn.whole.height, 1);
  drawn.view = around(drawn.whole, width, height, scale);
  drawn.view.y = (drawn.whole.height - drawn.view.height) / 2;
  setView();
}

function listen(svg) {
  svg.addEventListener("wheel", (event) => {
    event.preventDefault();
    const at = svg.getBoundingClientRect();
    zoom(Math.exp(event.deltaY / 400), (event.clientX - at.left) / at.width, (event.clientY - at.top) / at.height);
  }, { passive: false });
  let from = null;
  svg.addEventListener("pointerdown", (event) => { from = { x: event.clientX, y: event.clientY, view: drawn.view }; });
  svg.addEventListener("pointermove", (event) => {
    if (!from || !event.buttons) return;
    const scale = from.view.width / svg.getBoundingClientRect().width;
    drawn.view = { ...from.view, x: from.view.x - (event.clientX - from.x) * scale, y: from.view.y - (event.clientY - from.y) * scale };
    setView();
  });
  for (const name of ["pointerup", "pointerleave"]) svg.addEventListener(name, () => { from = null; });
  svg.addEventListener("keydown", (event) => {
    if (event.key === "+" || event.key === "=") zoom(0.8);
    if (event.key === "-") zoom(1.25);
    if (event.key === "0") fitDrawing();
  });
}

/** Marks the boxes that hold something selected, and brings one into view. */
function markDrawing() {
  const svg = byId("drawing").querySelector("svg");
  if (!svg) return;
  const { selection } = state;
  const marked = [];
  for (const shape of svg.querySelectorAll(".box")) {
    const on = Boolean(selection) && shape.nodes.some((node) => (node.body.length
      ? selection.groups.has(node.attrs.name) : selection.values.has(valueKey(node))));
    shape.classList.toggle("on", on);
    if (on) marked.push(shape);
  }
  svg.classList.toggle("some", marked.length > 0);
  const seen = (shape) => isVisible(shape, svg);
  if (!marked.length || marked.some(seen)) return;
  const [, left, top] = /translate\((\S+) (\S+)\)/.exec(marked[0].getAttribute("transform")).map(Number);
  const { view } = drawn;
  drawn.view = { ...view, x: left + BOX.width / 2 - view.width / 2, y: top + BOX.height / 2 - view.height / 2 };
  setView();
}
