"use strict";
// The page is a view of one JSON document (docs/inspection.md); report_stages.js and report_drawing.js come before this file, in one
// script.
// `state` says which function and graph are shown and what is selected. A selection is a set of values, source places and
// fused groups, and everything else follows from it. Passes may use a name again for something else, so what stands for a
// value over all stages is its name with its place.

const reports = JSON.parse(document.getElementById("data").textContent);
const state = { report: reports[0], graph: null, index: null, selection: null, tab: "ops", sort: ["index", 1] };

// -- small helpers ------------------------------------------------------------------------------------------------------

const byId = (id) => document.getElementById(id);

/** An element; `attributes` may hold listeners (onclick), `children` are elements or text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element[name] = value;
    else if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

function makeSvg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(byId("mark").namespaceURI, tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const number = (value) => value.toLocaleString("en-US");
const counted = (count, word) => `${number(count)} ${word}${count === 1 ? "" : word.endsWith("ch") ? "es" : "s"}`;
const milliseconds = (seconds) => (seconds * 1e3).toFixed(2);
const placeKey = (thing) => (thing.file == null ? "" : `${thing.file}\n${thing.line}`);
const valueKey = (node) => `${node.outputs[0].name}\n${placeKey(node)}`;
const baseName = (file) => file.split(/[\\/]/).pop();
const colorOf = (kind) => `var(--${kind || "copy"}, var(--copy))`;

function placeText(thing) {
  if (thing.file == null) return "";
  return `${baseName(thing.file)}:${thing.line}${thing.module ? " · " + thing.module : ""}`;
}

/** The ops of a group in order of first appearance, each once with its number. */
function opsText(group) {
  const counts = new Map();
  for (const op of group.ops) counts.set(op, (counts.get(op) || 0) + 1);
  return [...counts].map(([op, count]) => (count > 1 ? `${op} ×${count}` : op)).join(", ");
}

function timeText(seconds) {
  return seconds < 1e-3 ? `${(seconds * 1e6).toFixed(1)} µs` : `${(seconds * 1e3).toFixed(2)} ms`;
}

function bytesText(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  const units = ["KiB", "MiB", "GiB"];
  let unit = -1;
  do { bytes /= 1024; unit++; } while (bytes >= 1024 && unit < 2);
  return `${bytes.toFixed(bytes < 10 ? 2 : 1)} ${units[unit]}`;
}

function* everyNode(nodes) {
  for (const node of nodes) {
    yield node;
    yield* everyNode(node.body);
  }
}

function addTo(map, key, value) {
  if (!map.has(key)) map.set(key, new Set());
  map.get(key).add(value);
}

// -- what leads to what ---------------------------------------------------------------------------------------------------

/** Lookups of a graph: values and groups by place, groups by value, places and values by group. */
function indexOf(graph) {
  const index = {
    valuesAt: new Map(), groupsAt: new Map(), groupsOf: new Map(), tracedAt: new Map(),
    group: new Map(graph.groups.map((group) => [group.name, group])),
    kernel: new Map(graph.kernels.map((kernel) => [kernel.name, kernel])),
    code: new Map(graph.functions.map((code) => [code.name, code])),
    groupPlaces: new Map(), groupValues: new Map(),
  };
  for (const stage of graph.stages) {
    for (const node of everyNode(stage.nodes)) {
      if (node.body.length) continue;
      if (node.file != null) addTo(index.valuesAt, placeKey(node), valueKey(node));
    }
  }
  for (const node of graph.stages[0].nodes) {
    const place = placeKey(node);
    index.tracedAt.set(place, (index.tracedAt.get(place) || 0) + 1);
  }
  for (const node of graph.stages.at(-1).nodes) {
    for (const inner of node.body) {
      const name = node.attrs.name;
      const place = placeKey(inner);
      if (place) addTo(index.groupsAt, place, name);
      if (place) addTo(index.groupPlaces, name, place);
      addTo(index.groupsOf, valueKey(inner), name);
      addTo(index.groupValues, name, valueKey(inner));
    }
  }
  return index;
}

const each = (map, keys) => new Set([...keys].flatMap((key) => [...(map.get(key) || [])]));

function selectPlace(file, line) {
  const place = placeKey({ file, line });
  const { index } = state;
  select({
    title: `line ${baseName(file)}:${line}`,
    values: each(index.valuesAt, [place]), places: new Set([place]), groups: each(index.groupsAt, [place]),
  });
}

function selectGroup(name, title) {
  const group = state.index.group.get(name);
  if (!group) return;
  select({
    title: title || `group ${name} (${group.kind}: ${opsText(group)})`,
    values: each(state.index.groupValues, [name]), places: each(state.index.groupPlaces, [name]), groups: new Set([name]),
  });
}

function selectModule(module) {
  const nodes = state.graph.stages.flatMap((stage) => [...everyNode(stage.nodes)]).filter((node) => node.module === module && !node.body.length);
  const values = new Set(nodes.map(valueKey));
  select({
    title: `module ${module}`, values, places: new Set(nodes.filter((node) => node.file != null).map(placeKey)),
    groups: each(state.index.groupsOf, values),
  });
}

function selectNode(node) {
  if (node.body.length) return selectGroup(node.attrs.name);
  const key = valueKey(node);
  select({
    title: `%${node.outputs[0].name} = ${node.op}  ${placeText(node)}`,
    values: new Set([key]), places: new Set(node.file == null ? [] : [placeKey(node)]), groups: each(state.index.groupsOf, [key]),
  });
}

function select(selection) {
  state.selection = selection;
  const shown = byId("selected");
  shown.textContent = selection
    ? `${selection.title}  →  ${counted(selection.places.size, "line")}, ${counted(selectedLaunches().length, "launch")}`
    : "nothing selected";
  shown.title = shown.textContent;
  shown.className = selection ? "" : "none";
  byId("clear").hidden = byId("jump").hidden = !selection;
  markAll();
  showDetail();
}

const selectedLaunches = () =>
  state.selection ? state.graph.launches.filter((launch) => state.selection.groups.has(launch.group)) : [];

/** Marks every element that stands for something selected: `data-value`, `data-place` and `data-group` say what. */
function markAll() {
  const selection = state.selection;
  for (const element of document.querySelectorAll("[data-value], [data-place], [data-group]")) {
    const { value, place, group } = element.dataset;
    const on = selection && (
      (value !== undefined && selection.values.has(value)) || (place !== undefined && selection.places.has(place)) ||
      (group !== undefined && selection.groups.has(group)));
    element.classList.toggle("on", Boolean(on));
  }
  markDrawing();
  byId("arena").firstElementChild?.classList.toggle("some", Boolean(selection));
  const line = byId("source").querySelector(".on");
  if (line && selection && !isVisible(line, byId("source"))) line.scrollIntoView({ block: "center", container: "nearest" });
}

function isVisible(element, pane) {
  const inner = element.getBoundingClientRect(), outer = pane.getBoundingClientRect();
  if (outer.bottom < 0 || outer.top > innerHeight) return true; // the page stays where the user is
  return inner.top >= outer.top && inner.bottom <= outer.bottom;
}

/** A number of operations, in the unit that leaves it at least 1. */
function flopText(count) {
  const units = ["FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP"];
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) { count /= 1000; unit++; }
  return `${unit ? count.toFixed(count < 10 ? 2 : 1) : count} ${units[unit]}`;
}

const secondsText = (seconds) => (seconds < 1 ? `${milliseconds(seconds)} ms` : `${seconds.toFixed(2)} s`);

// -- header ---------------------------------------------------------------------------------------------------------------

function showFacts() {
  const { report, graph } = state;
  const launches = graph.launches;
  const total = (key) => launches.reduce((sum, launch) => sum + launch[key], 0);
  const last = report.compiles.at(-1);
  const facts = [
    [secondsText(last.seconds), last.from_cache ? "latest compile, machine code from disk" : "latest compile, cold"],
    [`${graph.stages[0].nodes.length} → ${graph.groups.length}`, "ops traced → groups"],
    [number(launches.length), `launches of ${graph.kernels.length} kernels`],
    [flopText(total("flops")), "per call, computed"],
    [bytesText(total("bytes")), "least bytes moved per call"],
    ...(launches.some((launch) => launch.measured)
      ? [[`${(launches.reduce((sum, { measured }) => sum + (measured ? measured.seconds : 0), 0) / callsMeasured() * 1e3).toFixed(3)} ms`,
      "in kernels per call, measured"]] : []),
    [bytesText(graph.memory.arena_bytes), `arena; lower bound ${bytesText(graph.memory.lower_bound)}`],
    [report.target, "target"],
  ];
  const dims = Object.entries(report.dims);
  if (dims.length) facts.push([dims.map(([name, size]) => `${name}=${size}`).join(", "), "sizes are for"]);
  byId("facts").replaceChildren(...facts.map(([value, what]) => make("div", {}, make("b", {}, value), make("span", {}, what))));
  const again = report.retraces ? `; traced again ${report.retraces} times with the same graph` : "";
  byId("compiles").replaceChildren(
    make("summary", {}, `${counted(report.compiles.length, "compile")}${again}`),
    make("ol", {}, ...report.compiles.map((compile) => make("li", {},
      `${secondsText(compile.seconds)}, ${compile.from_cache ? "machine code from disk" : "cold"}: ${compile.reason}`))),
    make("p", { class: "hint" }, "Of the graph shown: " + graph.steps.map((s) => `${s.name} ${milliseconds(s.seconds)} ms`).join(", ")),
  );
}

// -- source and detail ----------------------------------------------------------------------------------------------------

/** Seconds a group took in one call, as measured; null where it was not. */
function groupSeconds(group) {
  const calls = callsMeasured();
  const found = group.launches.map((i) => state.graph.launches[i].measured).filter(Boolean);
  return calls && found.length ? found.reduce((sum, { seconds }) => sum + seconds, 0) / calls : null;
}

/** Calls of the program that were measured: a launch in a loop runs several times in each. */
function callsMeasured() {
  const counts = state.graph.launches.filter(({ measured }) => measured).map(({ measured }) => measured.calls);
  return counts.length ? Math.min(...counts) : 0;
}

function showSource() {
  const rows = [];
  const times = new Map(state.graph.lines.map((line) => [placeKey(line), line.seconds]));
  const most = Math.max(0, ...times.values());
  const total = [...times.values()].reduce((sum, seconds) => sum + seconds, 0);
  const timeOf = (place) => {
    const seconds = times.get(place);
    if (!times.size) return null;
    const cell = make("span", { class: "time" }, seconds ? timeText(seconds / callsMeasured()) : "");
    if (seconds) {
      cell.style.setProperty("--share", `${(100 * seconds) / most}%`);
      cell.title = `${((100 * seconds) / total).toFixed(1)} % of the time in kernels`;
    }
    return cell;
  };
  for (const source of state.report.sources) {
    rows.push(make("div", { class: "file", title: source.file }, baseName(source.file)));
    const text = source.text || Object.fromEntries(source.lines.map((line) => [line, "(the file could not be read)"]));
    let before = 0;
    for (const [lineText, code] of Object.entries(text)) {
      const line = Number(lineText);
      if (before && line > before + 1) rows.push(make("div", { class: "row gap" }, "    ⋮"));
      before = line;
      const place = placeKey({ file: source.file, line });
      const made = state.index.valuesAt.has(place);
      rows.push(make("div", {
        class: made ? "row can" : "row", "data-place": made && place, role: made && "button", tabindex: made && "0",
        onclick: made && (() => selectPlace(source.file, line)),
      },
      make("span", { class: "number" }, lineText), make("span", { class: "count" }, String(state.index.tracedAt.get(place) || "")), timeOf(place), code));
    }
  }
  byId("source").className = "pane code";
  byId("source").replaceChildren(...rows);
}

const TABS = { ops: "Ops", loops: "Loop IR", llvm: "LLVM", assembly: "Assembly", memory: "Memory" };

function showDetail() {
  byId("tabs").replaceChildren(...Object.entries(TABS).map(([tab, title]) => make("button", {
    role: "tab", "aria-selected": String(tab === state.tab), onclick: () => { state.tab = tab; showDetail(); },
  }, tab === "assembly" && state.graph.machine_code === "PTX" ? "PTX" : title)));
  const detail = byId("detail");
  if (!state.selection) {
    detail.replaceChildren(make("p", { class: "hint" }, "Select a line, an op, a kernel, or a buffer."));
    return;
  }
  const found = { ops: detailOps, loops: detailLoops, llvm: () => detailCode("llvm"), assembly: () => detailCode("assembly"),
    memory: detailMemory }[state.tab]();
  detail.replaceChildren(...(found.length ? found : [make("p", { class: "hint" }, "Nothing: this was optimized away or has no kernel.")]));
  detail.scrollTop = 0;
}

function detailOps() {
  const { values } = state.selection;
  const shown = [];
  for (const title of ["traced", "fused"]) {
    const stage = title === "traced" ? state.graph.stages[0] : state.graph.stages.at(-1);
    const lines = stage.text.split("\n");
    const rows = [];
    for (const node of stage.nodes) {
      const inside = node.body.filter((inner) => values.has(valueKey(inner)));
      if (!node.body.length && values.has(valueKey(node))) rows.push(codeRow(lines[node.text_line].trim(), node));
      if (inside.length) rows.push(codeRow(lines[node.text_line].trim(), node), ...inside.map((inner) => codeRow("    " + lines[inner.text_line].trim(), inner)));
    }
    if (rows.length) shown.push(make("h3", {}, title === "traced" ? "As traced" : "In fused groups"), make("div", { class: "code" }, ...rows));
  }
  return shown;
}

const launchTitle = (launch) => `launch ${launch.index} · ${launch.kernel} · ${launch.group || "copy"}`;

/** A text for each selected launch; closed where there are many, and filled when opened. */
function textPerLaunch(titleOf, textOf) {
  const launches = selectedLaunches();
  return launches.map((launch) => {
    const block = make("details", { class: "launch" }, make("summary", {}, titleOf(launch)));
    block.ontoggle = () => { if (block.open && block.children.length === 1) block.append(make("pre", {}, textOf(launch))); };
    block.open = launches.length <= 6;
    return block;
  });
}

const detailLoops = () => textPerLaunch(launchTitle, (launch) => state.index.kernel.get(launch.kernel).text);

const detailCode = (what) =>
  textPerLaunch((launch) => `${launchTitle(launch)} · ${launch.function}`, (launch) => state.index.code.get(launch.function)[what]);

const placeOf = (role) => (role === "prepared" ? "kept between calls" : `caller's ${role}`);

function detailMemory() {
  const launches = selectedLaunches();
  const touched = new Map();
  for (const launch of launches) {
    for (const name of launch.reads) addTo(touched, name, "read");
    for (const name of launch.writes) addTo(touched, name, "written");
  }
  const { buffers, lent } = state.graph.memory;
  const arena = new Map([...buffers, ...lent].map((buffer) => [buffer.name, buffer]));
  const caller = new Map(state.graph.memory.caller.map((buffer) => [buffer.name, buffer]));
  const rows = [...touched].map(([name, how]) => {
    const slot = arena.get(name);
    return [name, [...how].join(", "), slot ? `${slot.in || "arena"} ${number(slot.offset)}` : placeOf(caller.get(name)?.role || "memory"),
      number((slot || caller.get(name))?.bytes ?? 0), slot ? `${slot.first} – ${slot.last}` : "", slot?.group || ""];
  });
  if (!rows.length) return [];
  return [make("table", {}, headRow(["buffer", "how", "where", "bytes", "launches", "owner"]),
    ...rows.map((row) => make("tr", {}, ...row.map((text) => make("td", {}, text)))))];
}

/** A line of graph text that selects its node; `unit` is a node, or null for lines that are none. */
function codeRow(text, node, mark = "") {
  const [, code, comment] = /^(.*?)(   # .*)?$/s.exec(text);
  const parts = [code];
  if (node) {
    const at = code.indexOf(` = ${node.op}(`);
    if (at >= 0) parts.splice(0, 1, code.slice(0, at + 3), make("span", { class: "op" }, node.op), code.slice(at + 3 + node.op.length));
  }
  if (comment) parts.push(make("span", { class: "at" }, comment));
  return make("div", {
    class: `row ${node ? "can" : ""} ${mark}`, "data-value": node && !node.body.length && valueKey(node),
    "data-group": node && node.body.length > 0 && node.attrs.name, onclick: node && (() => selectNode(node)),
  }, ...parts);
}

// -- kernels --------------------------------------------------------------------------------------------------------------

const headRow = (titles) => make("tr", {}, ...titles.map((title) => make("th", {}, title)));

const COLUMNS = [
  ["index", "launch"], ["kernel", "kernel"], ["group", "group"], ["kind", "kind"], ["flops", "FLOPs"], ["bytes", "bytes"],
  ["intensity", "FLOP/B"], ["ops", "computes"], ["from", "from"],
];
const MEASURED = [
  ["microseconds", "µs"], ["calls", "runs"], ["gflops", "GFLOP/s"], ["gigabytes", "GB/s"], ["percent", "% of roofline"],
];
const NUMERIC = new Set(["index", "flops", "bytes", "intensity", ...MEASURED.map(([column]) => column)]);

/** The columns there are data for: what was measured stands before what the launch computes. */
function columnsOf(launches) {
  return launches.some((launch) => launch.measured) ? [...COLUMNS.slice(0, 7), ...MEASURED, ...COLUMNS.slice(7)] : COLUMNS;
}

function measuredOf({ measured }) {
  if (!measured) return {};
  const { calls, seconds, gflops, gigabytes, percent } = measured;
  return { microseconds: seconds / calls * 1e6, calls, gflops, gigabytes, percent };
}

function showLaunches() {
  const [key, direction] = state.sort;
  const rows = state.graph.launches.map((launch) => {
    const group = state.index.group.get(launch.group);
    return { ...launch, ...measuredOf(launch), kind: group ? group.kind : "copy", ops: (group ? opsText(group) : "") + (launch.once ? " · once, kept" : ""), from: group ? placeText(group) : "" };
  });
  rows.sort((a, b) => direction * (NUMERIC.has(key) ? (a[key] ?? -1) - (b[key] ?? -1) : String(a[key]).localeCompare(String(b[key]))) || a.index - b.index);
  const columns = columnsOf(state.graph.launches);
  const head = columns.map(([column, title]) => make("th", {
    class: NUMERIC.has(column) && "n", "aria-sort": column === key && (direction > 0 ? "ascending" : "descending"),
  }, make("button", {
    onclick: () => {
      state.sort = [column, column === key ? -direction : NUMERIC.has(column) && column !== "index" ? -1 : 1];
      showLaunches();
      markAll();
    },
  }, title + (column === key ? (direction > 0 ? " ↑" : " ↓") : ""))));
  const cell = (row, column) => {
    if (column === "kind") return make("td", {}, make("span", { class: "dot", style: `background:${colorOf(row.kind)}` }), row.kind);
    if (NUMERIC.has(column) && row[column] == null) return make("td", { class: "n" }, "");
    if (column === "percent") return make("td", { class: "n" }, row.percent.toFixed(1));
    if (["intensity", "microseconds", "gflops", "gigabytes"].includes(column)) return make("td", { class: "n" }, row[column].toFixed(2));
    if (NUMERIC.has(column)) return make("td", { class: "n" }, number(row[column]));
    return make("td", { class: column === "ops" && "wide" }, row[column] || "");
  };
  byId("launches").replaceChildren(make("tr", {}, ...head), ...rows.map((row) => make("tr", {
    class: "can", "data-group": row.group, onclick: () => row.group && selectGroup(row.group, launchTitle(row)),
  }, ...columns.map(([column]) => cell(row, column)))));
  const peaks = state.report.peaks;
  const tiles = peaks && (peaks.bf16 || peaks.i8)
    ? `, in tile registers ${peaks.bf16.toFixed(0)} bf16 and ${peaks.i8.toFixed(0)} i8,` : "";
  byId("kernel-facts").textContent = peaks && columns !== COLUMNS
    ? `Measured: µs of one run, on average. The roofline is ${peaks.f32.toFixed(0)} GFLOP/s f32, ${peaks.f64.toFixed(0)} f64${tiles} and ` +
      `${peaks.memory.toFixed(1)} GB/s, measured with ${counted(peaks.threads, "thread")}; more than 100 % means that data came from a cache.`
    : "";
}

// -- memory ---------------------------------------------------------------------------------------------------------------

function showArena() {
  const { memory, launches } = state.graph;
  const kindOf = (buffer) => state.index.group.get(buffer.group)?.kind;
  const bytesOf = (...roles) => memory.caller.reduce((sum, buffer) => sum + (roles.includes(buffer.role) ? buffer.bytes : 0), 0);
  const room = bytesOf("input", "updated input"), kept = bytesOf("prepared");
  byId("arena-facts").textContent =
    `Launches from left to right, byte offsets from bottom to top; a rectangle is a buffer from its first to its last launch. ` +
    `${bytesText(memory.arena_bytes)} arena, ${bytesText(memory.lower_bound)} alive at once at most, for ${counted(memory.buffers.length, "buffer")}; ` +
    (memory.lent.length ? `${number(memory.lent.length)} more lie in results that are not written yet; ` : "") +
    `inputs (${bytesText(room)}) are the caller's memory.` +
    (kept ? ` ${bytesText(kept)} that depend on parameters alone are kept between calls.` : "");
  if (!memory.buffers.length) {
    byId("arena").replaceChildren(make("p", {}, "No arena: every result is an output."));
    byId("legend").replaceChildren();
    byId("peak").replaceChildren();
    return;
  }
  const width = 1200, height = 360, left = 70, top = 20, bottom = 24;
  const x = (launch) => left + (launch / launches.length) * (width - left - 8);
  const y = (offset) => height - bottom - (offset / memory.arena_bytes) * (height - top - bottom);
  const svg = makeSvg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "memory arena over launches" });
  for (let tick = 0; tick <= 4; tick++) {
    const offset = (memory.arena_bytes * tick) / 4;
    svg.append(makeSvg("line", { class: "axis", x1: left, x2: width - 8, y1: y(offset), y2: y(offset) }),
      makeSvg("text", { x: left - 6, y: y(offset) + 4, "text-anchor": "end" }, bytesText(Math.round(offset))));
  }
  const step = Math.max(1, Math.ceil(launches.length / 24));
  for (let launch = 0; launch < launches.length; launch += step) {
    svg.append(makeSvg("text", { x: (x(launch) + x(launch + 1)) / 2, y: height - 8, "text-anchor": "middle" }, String(launch)));
  }
  const at = memory.peak_launch;
  svg.append(makeSvg("rect", { class: "peak", x: x(at), y: top, width: x(at + 1) - x(at), height: height - top - bottom }));
  for (const buffer of memory.buffers) {
    const group = state.index.group.get(buffer.group);
    svg.append(makeSvg("rect", {
      class: "buffer", x: x(buffer.first), width: x(buffer.last + 1) - x(buffer.first), y: y(buffer.offset + buffer.bytes),
      height: Math.max(1, y(buffer.offset) - y(buffer.offset + buffer.bytes)), fill: colorOf(kindOf(buffer)),
      "data-group": buffer.group || "", onclick: () => selectGroup(buffer.group, `buffer ${buffer.name} of ${buffer.group}`),
    }, makeSvg("title", {}, `${buffer.name}: ${number(buffer.bytes)} bytes at ${number(buffer.offset)}\nlaunches ${buffer.first} to ` +
      `${buffer.last}\nwritten by ${buffer.group || "a copy"}${group ? " (" + opsText(group) + ")\n" + placeText(group) : ""}`)));
  }
  const label = `peak ${bytesText(memory.peak_bytes)} at launch ${at}, ${launches[at].kernel}`;
  const right = x(at) > width / 2;
  svg.append(makeSvg("text", { class: "peak-label", x: right ? x(at + 1) : x(at), y: 14, "text-anchor": right ? "end" : "start" }, label));
  byId("arena").replaceChildren(svg);
  const kinds = [...new Set(memory.buffers.map((buffer) => kindOf(buffer) || "copy"))];
  byId("legend").replaceChildren("Colour: the kind of group that writes it. ", ...kinds.map((kind) =>
    make("span", {}, make("span", { class: "dot", style: `background:${colorOf(kind)}` }), kind)));
  const alive = memory.buffers.filter((buffer) => buffer.first <= at && at <= buffer.last).sort((a, b) => b.bytes - a.bytes);
  byId("peak").replaceChildren(headRow(["buffer", "bytes", "launches", "owner", "computes", "from"]), ...alive.map((buffer) => {
    const group = state.index.group.get(buffer.group);
    return make("tr", { class: "can", "data-group": buffer.group || "", onclick: () => selectGroup(buffer.group) },
      ...[buffer.name, number(buffer.bytes), `${buffer.first} – ${buffer.last}`, buffer.group || "", group ? opsText(group) : "",
        group ? placeText(group) : ""].map((text) => make("td", {}, text)));
  }));
}

// -- refusals ---------------------------------------------------------------------------------------------------------------

const REASONS = {
  different_iteration_space: "they run over different elements",
  different_reduction: "they reduce over different rows",
  read_at_another_index: "the reader needs other elements than the one just made",
  would_create_cycle: "one kernel would have to wait for itself through another",
  consumer_outside: "something outside the kernel needs the result as well",
  kind_takes_no_such_node: "this kind of kernel takes no such op",
  one_anchor_per_group: "a kernel has one contraction or window",
  would_be_recomputed: "the result would be computed many times",
  group_too_large: "the kernel would become too large",
  operand_must_be_in_memory: "the operand must lie in memory",
};

const refusalKey = (value) => `${value.name}\n${placeKey(value)}`;

function showRefusals() {
  const { refusals } = state.graph;
  // A click shows the lines and kernels of both.
  const both = ({ producer, consumer }) => ({
    title: `%${producer.name} = ${producer.op} and %${consumer.name} = ${consumer.op}`,
    values: new Set([refusalKey(producer), refusalKey(consumer)]), places: new Set([producer, consumer].map(placeKey)),
    groups: each(state.index.groupsOf, [refusalKey(producer), refusalKey(consumer)]),
  });
  const cell = (value) => make("td", {}, `%${value.name} = ${value.op}`, make("span", { class: "at" }, "  " + placeText(value)));
  const rows = refusals.map((refusal) => make("tr", { class: "can", onclick: () => select(both(refusal)) },
    cell(refusal.producer), cell(refusal.consumer),
    make("td", {}, refusal.reason), make("td", { class: "wide" }, REASONS[refusal.reason] || "")));
  byId("refusal-table").replaceChildren(headRow(["result", "reader", "reason", "that is"]),
    ...(rows.length ? rows : [make("tr", {}, make("td", {}, "No pair was refused."))]));
}

// -- tuning -----------------------------------------------------------------------------------------------------------------

function showTuning() {
  const { tuning } = state.graph;
  byId("tuning").hidden = byId("tuning-link").hidden = !tuning;
  if (!tuning) return;
  const left = tuning.left ? `; ${tuning.left} were left to the model, as time was up` : "";
  byId("tuning-facts").textContent = `${tuning.threads} threads, ${tuning.seconds.toFixed(1)} s${left}.`;
  const rows = tuning.choices.flatMap(({ subject, groups, candidates, chosen, gain }) => candidates.map((candidate, i) =>
    make("tr", { class: "can", onclick: () => selectGroup(groups[0], `${subject} of ${groups.join(", ")}`) },
      ...[i ? "" : `${subject} of ${groups.join(", ")}`, (candidate.seconds * 1e6).toFixed(1),
        Math.round(candidate.cycles / 1e3) + " k", i ? "" : "model's",
        i === chosen ? (i ? `chosen, ${(gain * 100).toFixed(0)} % faster` : "chosen") : ""].map((text) => make("td", {}, text)),
      make("td", { class: "wide" }, candidate.plan))));
  byId("tuning-table").replaceChildren(headRow(["kernel", "µs", "model's cycles", "", "", "way"]),
    ...(rows.length ? rows : [make("tr", {}, make("td", {}, "There was nothing to choose."))]));
}

// -- search -----------------------------------------------------------------------------------------------------------------

function searchable() {
  const entries = [];
  const { graph, report } = state;
  for (const source of report.sources) {
    for (const line of source.lines) {
      const code = source.text ? (source.text[line] || "").trim() : "";
      entries.push(["line", `${baseName(source.file)}:${line}  ${code}`, () => selectPlace(source.file, line)]);
    }
  }
  for (const module of new Set(graph.stages[0].nodes.map((node) => node.module).filter(Boolean))) {
    entries.push(["module", module, () => selectModule(module)]);
  }
  for (const launch of graph.launches) {
    if (launch.group) entries.push(["kernel", `${launch.index}  ${launch.kernel}  ${launch.function}  ${launch.group}`, () => selectGroup(launch.group, launchTitle(launch))]);
  }
  for (const node of graph.stages[0].nodes) entries.push(["op", `%${node.outputs[0].name} = ${node.op}  ${placeText(node)}`, () => selectNode(node)]);
  const seen = new Set(graph.stages[0].nodes.map(valueKey));
  for (const node of graph.stages.at(-1).nodes.flatMap((group) => group.body)) {
    const key = valueKey(node);
    if (!seen.has(key)) entries.push(["op", `%${node.outputs[0].name} = ${node.op}  ${placeText(node)}`, () => selectNode(node)]);
    seen.add(key);
  }
  for (const buffer of [...graph.memory.buffers, ...graph.memory.lent]) {
    entries.push(["buffer", `${buffer.name}  ${number(buffer.bytes)} bytes  ${buffer.group || ""}`, () => selectGroup(buffer.group, `buffer ${buffer.name}`)]);
  }
  return entries;
}

function search() {
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const box = byId("found");
  const found = words.length ? searchable().filter(([, text]) => words.every((word) => text.toLowerCase().includes(word))) : [];
  box.hidden = !words.length;
  box.replaceChildren(...found.slice(0, 60).map(([kind, text, go]) => make("button", {
    onclick: () => { go(); box.hidden = true; byId("trace").scrollIntoView(); },
  }, make("span", { class: "kind" }, kind), text)));
  const more = found.length > 60 ? `${found.length - 60} more` : found.length ? "" : "nothing found";
  if (more) box.append(make("p", { class: "hint", style: "padding: 0 8px" }, more));
}

// -- start ------------------------------------------------------------------------------------------------------------------

function showGraph(position) {
  state.graph = state.report.graphs[position];
  state.index = indexOf(state.graph);
  state.selection = null;
  showFacts();
  showSource();
  showDrawingChoices();
  showLaunches();
  showArena();
  showPasses();
  showStageChoices();
  showRefusals();
  showTuning();
  select(null);
}

function showReport(position) {
  state.report = reports[position];
  const several = state.report.graphs.length > 1;
  const names = ["forward", "backward"];
  byId("graph").hidden = !several;
  byId("graph").replaceChildren(...state.report.graphs.map((graph, i) =>
    make("option", { value: String(i) }, several && i < 2 ? `${names[i]} (${graph.name})` : graph.name)));
  showGraph(0);
}

byId("function").replaceChildren(...reports.map((report, i) => make("option", { value: String(i) }, report.function)));
byId("function").onchange = (event) => showReport(Number(event.target.value));
byId("graph").onchange = (event) => showGraph(Number(event.target.value));
byId("left").onchange = byId("right").onchange = byId("only-changes").onchange = showStages;
byId("drawn-stage").onchange = (event) => enterScope(event.target.value, "");
byId("zoom-in").onclick = () => zoom(0.8);
byId("zoom-out").onclick = () => zoom(1.25);
byId("zoom-fit").onclick = fitDrawing;
byId("clear").onclick = () => select(null);
byId("search").oninput = search;
byId("search").onfocus = search;
document.addEventListener("click", (event) => { if (!event.target.closest(".search")) byId("found").hidden = true; });
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !/INPUT|SELECT|TEXTAREA/.test(document.activeElement.tagName)) { event.preventDefault(); byId("search").focus(); }
  if (event.key === "Escape") { byId("found").hidden = true; select(null); }
  if (event.key === "Enter" && document.activeElement.matches(".row.can")) document.activeElement.click();
});
showReport(0);
// `#select=file.py:12` opens the page with a line selected: for links to a place, and for screenshots.
const wanted = /^#select=(.*):(\d+)$/.exec(decodeURIComponent(location.hash));
const source = wanted && state.report.sources.find((each) => baseName(each.file) === wanted[1]);
if (source) selectPlace(source.file, Number(wanted[2]));
