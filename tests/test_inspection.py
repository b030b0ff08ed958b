"""The report as data and as a page, and the commands that show what a script compiled."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise

import pytest
from networks import digits, lenet
from png import pixels_of
from test_compile_step import OPTIMIZERS, make_step

import vitrify as torch
from vitrify.__main__ import main
from vitrify.codegen.llvm import assembly, emit_program, launched_functions
from vitrify.codegen.lower import lower_graph
from vitrify.codegen.target import Target
from vitrify.compile.report_code import split_assembly, split_llvm
from vitrify.compile.report_page import SCRIPTS, page
from vitrify.ir.parser import parse
from vitrify.passes.memory_plan import Interval, Plan, check_plan

STAGES = ("traced", "decompose", "fusion")


@pytest.fixture(scope="module")
def compiled():
    net = lenet()
    step = torch.compile(make_step(net, OPTIMIZERS["momentum"](net.parameters())))
    step(*digits(3))
    return step


@pytest.fixture(scope="module")
def report(compiled):
    return compiled.report().to_json()


@pytest.fixture(scope="module")
def graph(report):
    (graph,) = report["graphs"]
    return graph


def every_node(nodes):
    for node in nodes:
        yield node
        yield from every_node(node["body"])


# -- the data -----------------------------------------------------------------------------------------------------------


def test_the_data_is_strict_json(report):
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["format"] == 1 and report["function"] == "step"
    assert report["compiles"][0]["reason"] == "first call" and report["compiles"][0]["seconds"] > 0


def test_every_node_but_constants_knows_its_line(graph):
    for stage in graph["stages"]:
        for node in every_node(stage["nodes"]):
            constant = not node["inputs"]
            assert constant or (node["file"] and node["line"] > 0), (stage["name"], node)


def test_the_lines_that_made_nodes_are_in_the_sources(report, graph):
    text = {source["file"]: source["text"] for source in report["sources"]}
    node = next(n for n in graph["stages"][0]["nodes"] if n["op"] == "convolution")
    assert "self.conv1(x)" in text[node["file"]][str(node["line"])]
    for stage in graph["stages"]:
        for node in every_node(stage["nodes"]):
            assert node["file"] is None or str(node["line"]) in text[node["file"]]


def test_nodes_point_at_their_line_of_the_stages_text(compiled, graph):
    for stage in graph["stages"]:
        lines = stage["text"].split("\n")
        assert stage["text"] == str(compiled.graph(stage["name"]))
        nodes = list(every_node(stage["nodes"]))
        assert len({n["id"] for n in nodes}) == len(nodes)
        for node in nodes:
            line = lines[node["text_line"]].strip()
            assert line.startswith(f"%{node['outputs'][0]['name']}: {node['outputs'][0]['type']}")
            assert f"= {node['op']}(" in line


def test_symbolic_dims_move_the_lines_by_one():
    fast = torch.compile(lenet(), dynamic_shapes={"x": {0: torch.Dim("batch", 1, 256)}})
    fast(digits(3)[0])
    report = fast.report().to_json()
    assert report["dims"] == {"batch": 3}
    assert len(report["graphs"]) == 2
    for graph in report["graphs"]:
        for stage in graph["stages"]:
            lines = stage["text"].split("\n")
            for node in every_node(stage["nodes"]):
                assert f"= {node['op']}(" in lines[node["text_line"]]


def test_every_launch_belongs_to_a_group_a_kernel_and_a_function(graph):
    groups = {group["name"]: group for group in graph["groups"]}
    kernels = {kernel["name"]: kernel for kernel in graph["kernels"]}
    functions = {function["name"]: function for function in graph["functions"]}
    for number, launch in enumerate(graph["launches"]):
        assert launch["index"] == number
        assert number in groups[launch["group"]]["launches"]
        assert kernels[launch["kernel"]]["text"].find(f"kernel {launch['kernel']}(") >= 0
        function = functions[launch["function"]]
        assert f"@{launch['function']}(" in function["llvm"].splitlines()[0]
        assert re.search(rf"^_?{launch['function']}:$", function["assembly"], re.MULTILINE)
        assert re.search(r"\bret", function["assembly"])
        assert launch["flops"] >= 0 and launch["bytes"] > 0
        assert launch["intensity"] == pytest.approx(launch["flops"] / launch["bytes"])
    assert {g["name"] for g in graph["groups"]} == {n["attrs"]["name"] for n in graph["stages"][-1]["nodes"]}


def test_launch_totals_are_the_text_reports(compiled, graph):
    lines = compiled.report().kernels()
    assert [line.flops for line in lines] == [launch["flops"] for launch in graph["launches"]]
    assert [line.source for line in lines] == [launch["group"] for launch in graph["launches"]]


@pytest.fixture(scope="module")
def measured():
    net = lenet()
    step = torch.compile(make_step(net, OPTIMIZERS["sgd"](net.parameters())))
    return step.report, step.report(measure=digits(3), repeats=4)


def test_a_report_measures_the_kernels(measured):
    report = measured[1].to_json()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["peaks"]["f32"] > 0 and report["peaks"]["memory"] > 0
    for launch in report["graphs"][0]["launches"]:
        found = launch["measured"]
        assert found["calls"] == 4 and found["seconds"] > 0
        assert (found["flops"], found["bytes"]) == (4 * launch["flops"], 4 * launch["bytes"])
        assert found["gflops"] == pytest.approx(found["flops"] / found["seconds"] / 1e9)
        assert found["percent"] > 0
    assert "roofline" in str(measured[1]) and "GFLOP/s" in str(measured[1])
    assert "roofline" not in str(measured[0]())


def test_a_profile_measures_forward_and_backward():
    fast = torch.compile(lenet())
    x = digits(2)[0]
    with torch.profile() as p:
        fast(x).sum().backward()
    report = fast.report(measure=p.session).to_json()
    assert all(lx["measured"]["calls"] == 1 for graph in report["graphs"] for lx in graph["launches"])
    assert len(report["graphs"]) == 2


def test_a_saved_report_has_its_data_beside_it(compiled, report, tmp_path):
    assert compiled.report().save(tmp_path / "page.html") == tmp_path / "page.html"
    (found,) = json.loads((tmp_path / "page.json").read_text())
    assert found.keys() == report.keys() and found["graphs"][0]["launches"] == report["graphs"][0]["launches"]
    with pytest.raises(ValueError, match=r"its data goes beside it"):
        compiled.report().save(tmp_path / "page.json")


def test_a_notebook_shows_the_page_in_a_frame(compiled):
    text = compiled.report()._repr_html_()
    (frame,) = parsed(text).tags
    assert frame[0] == "iframe" and frame[1]["srcdoc"].startswith("<!doctype html>")


def test_the_memory_plan_is_consistent(graph):
    memory, launches = graph["memory"], graph["launches"]
    assert memory["buffers"]
    users = {b["name"]: [] for b in memory["buffers"]}
    for launch in launches:
        for name in {*launch["reads"], *launch["writes"]}:
            users.get(name, []).append(launch["index"])
    for buffer in memory["buffers"]:
        assert (buffer["first"], buffer["last"]) == (min(users[buffer["name"]]), max(users[buffer["name"]]))
        assert buffer["offset"] >= 0 and buffer["offset"] + buffer["bytes"] <= memory["arena_bytes"]
        writer = launches[buffer["first"]]
        assert buffer["group"] == writer["group"] and buffer["name"] in writer["writes"]
    outside = {b["name"] for b in memory["caller"]}
    assert {n for launch in launches for n in launch["reads"] + launch["writes"]} == outside | users.keys()
    assert 0 < memory["peak_bytes"] <= memory["arena_bytes"]
    assert memory["peak_bytes"] >= memory["lower_bound"]


def test_buffers_alive_together_lie_apart(compiled, graph):
    program = compiled.graphs()[0].program
    share = {i.name: i.may_share for i in program.lifetimes}
    buffers = graph["memory"]["buffers"]
    intervals = tuple(
        Interval(b["name"], b["bytes"], b["first"], b["last"], share[b["name"]]) for b in buffers
    )
    offsets = {b["name"]: b["offset"] for b in buffers}
    check_plan(Plan(offsets, graph["memory"]["arena_bytes"], intervals))


def test_refusals_name_ops_and_lines(graph):
    assert graph["refusals"]
    for refusal in graph["refusals"]:
        assert refusal["reason"].isidentifier()
        assert refusal["producer"]["line"] and refusal["consumer"]["op"]


def test_passes_say_how_many_nodes_they_were_given(graph):
    stages = graph["stages"]
    for before, after in pairwise(stages):
        assert after["nodes_before"] == len(before["nodes"]) and after["seconds"] > 0


def test_code_is_split_by_symbol():
    module = "define void @a(ptr %x) nounwind {\nret void\n}\ndeclare void @c()\ndefine i32 @run() {\nret i32 0\n}\n"
    assert list(split_llvm(module)) == ["a", "run"]
    assert split_llvm(module)["run"] == "define i32 @run() {\nret i32 0\n}"
    text = (
        "\t.text\n.LCPI0_0:\n\t.long\t1\n\t.globl\ta\na:\n\tmovl\t$1, %eax\n.LBB0_1:\n\tretq\n.Lfunc_end0:\n"
        "\t.size\ta, 3\n\t.globl\trun\nrun:\n\tretq\n"
    )
    found = split_assembly(text, ["a", "run"])
    assert found["a"] == ".LCPI0_0:\n\t.long\t1\na:\n\tmovl\t$1, %eax\n.LBB0_1:\n\tretq"
    assert found["run"] == "run:\n\tretq"
    with pytest.raises(RuntimeError, match="no function missing"):
        split_assembly(text, ["missing"])


PROGRAMS = {
    "returns its argument": (lambda x: x, torch.ones(4)),
    "computes nothing from its argument": (lambda x: torch.zeros(3), torch.ones(4)),
    "has no elements": (lambda x: x + 1, torch.ones(0, 3)),
    "writes its argument": (lambda x: x.add_(1), torch.ones(4)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_small_programs_can_be_reported(name):
    function, argument = PROGRAMS[name]
    compiled = torch.compile(function)
    compiled(argument)
    (graph,) = compiled.report().to_json()["graphs"]
    assert graph["functions"][-1]["name"] == "run"
    assert page([compiled.report().to_json()])


def test_assembly_of_another_processor_is_split_too(compiled):
    target = Target.named("aarch64-neon")
    program = lower_graph(compiled.graph("fused"), target)
    modules = list(emit_program(program, target, instructions=1))
    functions = launched_functions(modules[-1])
    assert len(functions) == len(program.launches)
    found = split_assembly("\n".join(assembly(text, target) for text in modules), functions)
    assert all("\tret" in text for text in found.values())


# -- the page -----------------------------------------------------------------------------------------------------------


class Elements(HTMLParser):
    """The elements of a page in order, and the text of its scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] == "script":
            self.scripts.append(data)


def parsed(text: str) -> Elements:
    elements = Elements()
    elements.feed(text)
    return elements


def test_the_page_needs_nothing_from_outside(compiled, report, tmp_path):
    text = compiled.report().save(tmp_path / "out.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:", text)
    assert not re.search(r"@import|url\(", text)
    for tag, attributes in parsed(text).tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base"), tag
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith("#")
    (data,) = [s for s in parsed(text).scripts if s.startswith("[{")]
    (found,) = json.loads(data)
    assert found["function"] == "step" and found["graphs"][0]["launches"] == report["graphs"][0]["launches"]


def test_text_of_the_users_cannot_become_markup(report):
    hostile = "</script><script>alert(1)</script><!--"
    mean = json.loads(json.dumps(report))
    mean["function"] = hostile
    mean["sources"][0]["file"] = hostile
    mean["graphs"][0]["stages"][0]["nodes"][0]["module"] = hostile
    text = page([mean])
    plain = parsed(page([report])).tags
    assert [tag for tag, _ in parsed(text).tags] == [tag for tag, _ in plain]
    assert hostile not in text and "<script>alert" not in text
    (found,) = json.loads(next(s for s in parsed(text).scripts if s.startswith("[{")))
    assert found["function"] == hostile


def test_the_script_makes_no_markup_from_text():
    script = page_script()
    for door in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser"):
        assert door not in script


def page_script() -> str:
    return "".join(files("vitrify.compile").joinpath(name).read_text(encoding="utf-8") for name in SCRIPTS)


def test_a_page_about_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one compiled function"):
        page([])


# -- the commands -------------------------------------------------------------------------------------------------------

SCRIPT = """
import sys
import torch

def main():
    @torch.compile
    def scaled(x):
        return torch.softmax(x * 2, 1)

    @torch.compile
    def shifted(x):
        return torch.relu(x + 1)

    print("sums", scaled(torch.ones(2, 3)).sum().item(), shifted(torch.ones(2)).sum().item(), sys.argv[1:])

main()
sys.exit(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


def vitrify(*words, cwd):
    command = [sys.executable, "-m", "vitrify", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)


def test_report_runs_the_script_and_saves_every_function(script, tmp_path):
    done = vitrify("report", script, "-o", "out.html", "--", "4", cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert done.stdout == "sums 2.0 4.0 ['4']\n"
    assert "report of scaled, shifted in out.html" in done.stderr
    reports = json.loads((tmp_path / "out.json").read_text())
    assert [r["function"] for r in reports] == ["scaled", "shifted"]
    for launch in reports[0]["graphs"][0]["launches"]:
        assert launch["measured"]["calls"] == 1 and launch["measured"]["seconds"] > 0
    assert "<title>scaled, shifted · vitrify report</title>" in (tmp_path / "out.html").read_text(
        encoding="utf-8"
    )


def test_dump_prints_a_stage_alone(script, tmp_path):
    done = vitrify("dump", script, "--stage", "fusion", "--function", "scaled", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# scaled: fusion\ngraph scaled(") and "fused(" in done.stdout
    assert "shifted" not in done.stdout and "sums" in done.stderr
    done = vitrify("dump", script, "--stage", "traced", "--graph", "shifted", cwd=tmp_path)
    assert parse(done.stdout).name == "shifted"
    done = vitrify("dump", script, "--graph", "backward", cwd=tmp_path)
    assert done.returncode == 2 and "no graph 'backward'; there are scaled, shifted" in done.stderr


def test_the_data_can_go_elsewhere_and_times_be_left_out(script, tmp_path):
    done = vitrify(
        "report", script, "-o", "out.html", "--json", "facts.json", "--no-measure", "--", "0", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    reports = json.loads((tmp_path / "facts.json").read_text())
    assert reports[0]["peaks"] is None and reports[0]["graphs"][0]["launches"][0]["measured"] is None
    assert not (tmp_path / "out.json").exists() and (tmp_path / "out.html").exists()


def test_a_script_that_profiles_itself_can_be_reported(tmp_path):
    (tmp_path / "profiled.py").write_text(
        "import torch\n"
        "f = torch.compile(lambda x: x * 2 + 1)\n"
        "f(torch.ones(5))\n"
        "with torch.profiler.profile() as p:\n"
        "    f(torch.ones(5))\n"
        "print([k.calls for k in p.kernels()])\n"
        "f(torch.ones(5))\n"
    )
    done = vitrify("report", "profiled.py", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout == "[1]\n", done.stderr
    (report,) = json.loads((tmp_path / "report.json").read_text())
    assert [x["measured"]["calls"] for x in report["graphs"][0]["launches"]] == [3]


def test_dump_gives_data(script, tmp_path):
    found = json.loads(vitrify("dump", script, "--stage", "traced", "--json", cwd=tmp_path).stdout)
    assert [(f["function"], f["stage"]) for f in found] == [("scaled", "traced"), ("shifted", "traced")]
    assert "softmax" in [n["op"] for n in found[0]["nodes"]] and found[0]["text"].startswith("graph scaled(")
    (loops, _) = json.loads(vitrify("dump", script, "--stage", "loops", "--json", cwd=tmp_path).stdout)
    assert loops["text"].startswith("program")
    words = ("dump", script, "--diff", "traced", "fused", "--json", "--function", "scaled")
    (changes,) = json.loads(vitrify(*words, cwd=tmp_path).stdout)
    assert (changes["from"], changes["to"]) == ("traced", "fused")
    assert any(line.startswith("- ") and "softmax" in line for line in changes["lines"])
    done = vitrify("dump", script, "--stage", "nothing", "--json", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""


def test_dump_marks_differences_and_colours_them_on_demand(script, tmp_path):
    words = ("dump", script, "--diff", "traced", "decompose", "--function", "scaled")
    plain = vitrify(*words, cwd=tmp_path).stdout
    assert re.search(r"^-   .*= softmax\(", plain, re.MULTILINE)
    assert re.search(r"^\+   .*= exp\(", plain, re.MULTILINE)
    assert "\x1b[" not in plain
    colored = vitrify(*words, "--color", "always", cwd=tmp_path).stdout
    assert re.sub("\x1b\\[\\d+m", "", colored) == plain and "\x1b[31m-" in colored


def test_commands_say_what_there_is(script, tmp_path):
    done = vitrify("dump", script, "--stage", "nothing", cwd=tmp_path)
    assert done.returncode == 2 and "no stage 'nothing'; there are traced" in done.stderr
    done = vitrify("dump", script, "--function", "nobody", cwd=tmp_path)
    assert done.returncode == 2 and "no compiled function 'nobody'; there are scaled, shifted" in done.stderr
    (tmp_path / "eager.py").write_text("import torch\nprint(torch.ones(2))\n")
    done = vitrify("report", "eager.py", cwd=tmp_path)
    assert done.returncode == 1 and "called no function compiled with torch.compile" in done.stderr


# -- the drawing --------------------------------------------------------------------------------------------------------


def test_every_op_is_drawn_once_on_each_level(graph):
    assert set(graph["drawings"]) == {"traced", "fusion"}
    for name, drawing in graph["drawings"].items():
        nodes = next(stage for stage in graph["stages"] if stage["name"] == name)["nodes"]
        assert set(drawing["paths"]) == {node["id"] for node in nodes}
        for path, scope in drawing["scopes"].items():
            inside = [p for p in drawing["paths"].values() if f"{p}/".startswith(f"{path}/") or not path]
            assert scope["nodes"] == len(inside) == sum(box["count"] for box in scope["boxes"])
            entered = [b["scope"] for b in scope["boxes"] if "scope" in b and not b["outside"]]
            assert all(inner in drawing["scopes"] for inner in entered)
            assert scope["flat"] is not bool(entered)
    assert len(graph["drawings"]["traced"]["scopes"]) > 5
    assert {"conv1", "conv2"} & {p.split("/")[-1] for p in graph["drawings"]["traced"]["paths"].values()}


def test_edges_of_a_drawing_are_the_values_read(graph):
    stage = graph["stages"][-1]
    scope = graph["drawings"]["fusion"]["scopes"][""]
    maker = {v["name"]: i for i, node in enumerate(stage["nodes"]) for v in node["outputs"]}
    wanted = {(maker[v], i) for i, node in enumerate(stage["nodes"]) for v in node["inputs"] if v in maker}
    assert {
        tuple(scope["boxes"][edge[end]]["node"] for end in ("from", "to")) for edge in scope["edges"]
    } == wanted
    for edge in scope["edges"]:
        top, bottom = scope["boxes"][edge["from"]], scope["boxes"][edge["to"]]
        layers = [top["y"], *(y for _, y in edge["points"]), bottom["y"]]
        assert layers == [top["y"] + i for i in range(len(layers))], "one point a layer, downward"


def test_boxes_of_a_drawing_do_not_touch(graph):
    for drawing in graph["drawings"].values():
        for scope in drawing["scopes"].values():
            rows = {}
            for box in scope["boxes"]:
                rows.setdefault(box["y"], []).append(box["x"])
            assert all(b - a > 0.999 for row in rows.values() for a, b in pairwise(sorted(row)))


def test_a_report_without_the_layout_library_says_what_to_install(compiled, monkeypatch):
    monkeypatch.setattr(sys.modules["vitrify.compile.report_data"], "layout_library", lambda: None)
    (graph,) = compiled.report().to_json()["graphs"]
    assert graph["drawings"] is None
    assert "pip install 'vitrify[report]'" in page([compiled.report().to_json()])


# -- time at source lines -----------------------------------------------------------------------------------------------


def test_the_time_of_kernels_falls_to_the_lines_of_their_ops(compiled):
    report = compiled.report(measure=digits(3))
    (graph,) = report.to_json()["graphs"]
    total = sum(launch["measured"]["seconds"] for launch in graph["launches"] if launch["group"])
    assert sum(line["seconds"] for line in graph["lines"]) == pytest.approx(total)
    seconds = [line["seconds"] for line in graph["lines"]]
    assert seconds == sorted(seconds, reverse=True) and all(s >= 0 for s in seconds)
    conv = next(n["line"] for n in graph["stages"][0]["nodes"] if n["op"] == "convolution")
    (line,) = [
        each for each in graph["lines"] if each["line"] == conv and each["file"].endswith("networks.py")
    ]
    assert {"conv", "conv_weight_grad"} <= set(line["ops"])
    assert "time at source lines" in str(report) and "self.conv1(x)" in str(report)


def test_without_measuring_no_line_has_a_time(report, compiled):
    assert report["graphs"][0]["lines"] == []
    assert "time at source lines" not in str(compiled.report())


# -- a browser ----------------------------------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000", "--hide-scrollbars"]


def browse(file, *flags, fragment=""):
    command = [CHROMIUM, *FLAGS, *flags, f"{file.as_uri()}{fragment}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_browser_shows_the_report_with_a_line_selected(compiled, graph, tmp_path):
    file = compiled.report().save(tmp_path / "out.html")
    line = next(n["line"] for n in graph["stages"][0]["nodes"] if n["op"] == "convolution")
    done = browse(file, "--enable-logging=stderr", "--dump-dom", fragment=f"#select=networks.py:{line}")
    assert "CONSOLE" not in done.stderr, done.stderr
    tags = parsed(done.stdout).tags
    marked = [attributes for _, attributes in tags if "on" in (attributes.get("class") or "").split()]
    group = next(g for g in graph["groups"] if g["ops"][0] == "conv")
    assert any(a.get("data-group") == group["name"] for a in marked)
    assert any((a.get("data-place") or "").endswith(f"\n{line}") for a in marked)
    assert sum(tag == "rect" and (a.get("class") or "").startswith("buffer") for tag, a in tags) == len(
        graph["memory"]["buffers"]
    )
    boxes = [a["class"].split() for tag, a in tags if tag == "g" and (a.get("class") or "").startswith("box")]
    assert len(boxes) == len(graph["groups"]) and 0 < sum("on" in box for box in boxes) < len(boxes)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize("width", [420, 1400])
@pytest.mark.parametrize("dark", [False, True])
def test_screenshots_are_light_or_dark_and_not_empty(compiled, tmp_path, width, dark):
    file = compiled.report().save(tmp_path / "out.html")
    theme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    browse(file, f"--window-size={width},1200", f"--screenshot={tmp_path / 'shot.png'}", *theme)
    pixels = pixels_of((tmp_path / "shot.png").read_bytes())
    assert len({p for row in pixels for p in row}) > 20
    assert (sum(pixels[600][2]) < 200) is dark


def test_a_reader_that_has_enough_is_no_error():
    with subprocess.Popen(
        [sys.executable, "-m", "vitrify", "coverage"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as command:
        assert command.stdout is not None and command.stderr is not None
        command.stdout.close()
        assert command.stderr.read() == b""
    assert command.returncode == 1


def test_a_report_needs_a_folder_before_the_script_runs(tmp_path, capsys):
    assert main(["report", "nothing.py", "-o", str(tmp_path / "none" / "out.html")]) == 1
    assert capsys.readouterr().err.startswith(f"vitrify: no folder {tmp_path / 'none'} to save")
