"""What the site shows beside the pages in docs/: files of the repository, and links to them.

A link in a page leads to a file of the repository, so that it works in the repository itself. On
the site it leads to a page with that file. The pages of experiments and the config keys are made
here.
"""

import ast
import json
import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]

RESULTS = "experiments/README.md"
PAGES = {  # file of the repository -> page
    RESULTS: RESULTS,
    "README.md": "index.md",
    "launch/README.md": "launch.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
EXPERIMENTS = sorted(path.stem for path in (ROOT / "experiments").glob("*.py"))


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the experiments to the navigation."""
    pages = [{name: f"experiments/{name}.md"} for name in EXPERIMENTS]
    for entry in config.nav:
        if "Experiments" in entry:
            entry["Experiments"] += pages
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages, and turns links to files of the repository into links to pages."""
    sys.path.insert(0, str(ROOT / "docs"))  # mkdocs keeps it only while it loads this file
    from config_reference import PAGE, page

    texts = {file.src_uri: (f"docs/{file.src_uri}", file) for file in files.documentation_pages()}
    pages = {uri: (source, file.content_string) for uri, (source, file) in texts.items()}
    pages |= {uri: (source, (ROOT / source).read_text()) for source, uri in PAGES.items()}
    pages |= experiment_pages()
    pages[f"reference/{PAGE.name}"] = (f"docs/reference/{PAGE.name}", page())
    for path in (ROOT / "docs").rglob("*.ipynb"):
        source = path.relative_to(ROOT).as_posix()
        pages[site_uri(source)] = (source, notebook(path))
    linked: set[str] = set()
    for uri, (source, text) in pages.items():
        add(files, config, uri, with_links(text, source, uri, linked))
    for source in sorted(linked):
        add(files, config, f"source/{source}.md", code_page(source))
    return files


def add(files: Files, config: MkDocsConfig, uri: str, text: str) -> None:
    """Adds a page, or replaces it."""
    if existing := files.get_file_from_path(uri):
        files.remove(existing)
    files.append(File.generated(config, uri, content=text))


def site_uri(source: str) -> str:
    """Returns the page that shows a file or folder of the repository."""
    if (ROOT / source).is_dir() and (ROOT / source / "README.md").exists():
        source += "/README.md"
    if source in PAGES:
        return PAGES[source]
    if source.endswith(".ipynb"):
        return source.removeprefix("docs/").replace(".ipynb", ".md")
    if source.startswith("docs/"):
        return source.removeprefix("docs/")
    name = re.fullmatch(r"experiments/(\w+)\.py", source)
    return f"experiments/{name[1]}.md" if name else f"source/{source}.md"


def with_links(text: str, source: str, uri: str, linked: set[str]) -> str:
    """Returns the text with links between pages in place of links between files.

    Args:
      text: Markdown.
      source: the file that has the text; its links are relative to this file.
      uri: the page that shows the text.
      linked: gets the files that need a page of their own.
    """

    def replace(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        if not (ROOT / target).exists():
            return match[0]  # mkdocs reports it
        page = site_uri(target)
        if page.startswith("source/"):
            linked.add(target)
        anchor = match[2] or ""
        if target == RESULTS and anchor[1:] in EXPERIMENTS:
            page, anchor = f"experiments/{anchor[1:]}.md", ""
        return posixpath.relpath(page, posixpath.dirname(uri) or ".") + anchor

    return LINK.sub(replace, text)


def experiment_pages() -> dict[str, tuple[str, str]]:
    """Returns a page for each experiment, and one for the results of all of them."""
    head, *sections = re.split(r"^## (?=\w)", (ROOT / RESULTS).read_text(), flags=re.MULTILINE)
    results = {section.partition("\n")[0]: section.partition("\n")[2] for section in sections}
    found = {}
    for name in EXPERIMENTS:
        code = (ROOT / "experiments" / f"{name}.py").read_text()
        about = ast.get_docstring(ast.parse(code)) or ""
        text = f"# {name}\n\n{fence(about, 'text')}\n"
        if shown := results.pop(name, ""):
            text += "\n## Results\n" + shown
        text += f"\n## experiments/{name}.py\n\n{fence(code, 'python')}"
        found[f"experiments/{name}.md"] = (RESULTS, text)
    rest = head + "".join(f"## {name}\n{text}" for name, text in results.items())
    rest = re.sub(r"\]\(#(\w+)\)", lambda m: linked_experiment(m[1], m[0]), rest)
    return {**found, RESULTS: (RESULTS, rest)}


def linked_experiment(name: str, link: str) -> str:
    """Returns the link to an experiment's page; `link` if there is none."""
    return f"]({name}.py)" if name in EXPERIMENTS else link


def notebook(path: Path) -> str:
    """Returns a notebook as Markdown."""
    parts = []
    for cell in json.loads(path.read_text())["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else fence(text, "python"))
    return "\n\n".join(parts)


def code_page(source: str) -> str:
    """Returns a page with a file of the repository, or with the names in a folder."""
    path = ROOT / source
    if path.is_dir():
        names = sorted(each.name for each in path.iterdir() if each.name[0] not in "._")
        return f"# {source}\n\n" + "\n".join(f"- `{name}`" for name in names)
    kind = {".py": "python", ".yaml": "yaml", ".sh": "bash", ".sbatch": "bash"}.get(path.suffix)
    return f"# {source}\n\n{fence(path.read_text(), kind or 'text')}"


def fence(code: str, kind: str) -> str:
    """Returns a code block."""
    return f"````{kind}\n{code.rstrip()}\n````\n"
