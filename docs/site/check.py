"""`make site-check`: look at a built site as a browser does, with headless Chromium and axe-core.

python docs/site/check.py site --screenshots screenshots
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]

from sitegen.links import find_broken  # noqa: E402

CHROMIUM = "/usr/bin/chromium"  # Debian's: apt install chromium
WIDTHS = (1280, 390)
AXE = {"preload": False, "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
ALWAYS = ("index", "claims", "which_method", "gallery", "own_model", "about", "cite", "search")
ALONE = ("api/pruning", "docs/architecture", "docs/real/index")


def pages_to_see(site: Path) -> list[str]:
    """The pages that are looked at: the top, every notebook, and one of each other kind."""
    notebooks = [path.relative_to(site).with_suffix("").as_posix() for path in sorted(site.glob("notebooks/*.html"))]
    return [f"{name}.html" for name in (*ALWAYS, *notebooks, *ALONE)]


def look(browser: Browser, site: Path, name: str, width: int, scheme: str, shots: Path | None) -> Iterator[str]:
    """What is wrong with a page at a width, light or dark: console, requests, sideways scrolling, accessibility."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, heard = context.new_page(), []

    def hear(message: ConsoleMessage) -> None:
        heard.extend([f"console: {message.text}"] if message.type in ("error", "warning") else [])

    def watch(request: Request) -> None:
        heard.extend([] if request.url.startswith(("file:", "data:")) else [f"asks for {request.url}"])

    page.on("console", hear)
    page.on("pageerror", lambda error: heard.append(f"script: {error}"))
    page.on("request", watch)
    page.on("requestfailed", lambda request: heard.append(f"cannot load {request.url}"))
    page.goto((site / name).resolve().as_uri())
    page.wait_for_timeout(200)
    needed = page.evaluate("document.documentElement.scrollWidth")
    if needed > width:
        heard.append(f"is {needed} pixels wide")
    if width == WIDTHS[0] or name in ("index.html", "claims.html", "which_method.html"):
        heard += accessibility(page)
    if shots:
        shots.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=shots / f"{name.replace('/', '-').removesuffix('.html')}-{width}-{scheme}.png")
    context.close()
    yield from (f"{name} ({width}, {scheme}): {each}" for each in dict.fromkeys(heard))


def accessibility(page: Page) -> list[str]:
    """What axe-core finds: contrast, texts in place of images, names of controls."""
    found = Axe().run(page, options=AXE).response["violations"]
    return [
        f"{one['id']}, {len(one['nodes'])} times, as in {one['nodes'][0]['html'][:160]} "
        f"({one['nodes'][0]['failureSummary'].splitlines()[-1].strip()[:200]})"
        for one in found
    ]


def try_claims(browser: Browser, site: Path) -> Iterator[str]:
    """The claims filter, sort, open by their address, and are all there without a script."""
    page = browser.new_page()
    page.goto((site / "claims.html").resolve().as_uri())
    shown = "Array.from(document.querySelectorAll('#claims-table > tbody')).filter(b => !b.hidden).map(b => b.id)"
    every = page.evaluate(shown)
    page.fill("[name=words]", "sparsegpt")
    some = page.evaluate(shown)
    if not 0 < len(some) < len(every):
        yield f"claims: the word 'sparsegpt' shows {len(some)} of {len(every)}"
    if page.input_value("[name=words]") and f"{len(some)} of" not in page.inner_text("#claims-filters output"):
        yield "claims: the count under the filters is not what is shown"
    page.click("[type=reset]")
    page.wait_for_timeout(100)
    page.select_option("[name=outcome]", "contradicted")
    if not 0 < len(page.evaluate(shown)) < len(every):
        yield "claims: the outcome 'contradicted' does not filter"
    page.click("[type=reset]")
    page.wait_for_timeout(100)
    page.click("#claims-table > thead th:nth-child(2) button")
    papers = page.evaluate("Array.from(document.querySelectorAll('#claims-table > tbody')).map(b => b.dataset.paper)")
    if papers != sorted(papers, key=str.lower) or papers[0] == papers[-1]:
        yield "claims: a click on 'paper' does not sort by paper"
    page.goto("about:blank")
    page.goto((site / "claims.html").resolve().as_uri() + f"#{every[1]}")
    if not page.evaluate(f"document.querySelector('#{every[1]} details').open"):
        yield f"claims: the address #{every[1]} does not open its row"
    plain = browser.new_context(java_script_enabled=False).new_page()
    plain.goto((site / "claims.html").resolve().as_uri())
    if plain.locator("#claims-table > tbody").count() != len(every) or plain.locator("#claims-filters").is_visible():
        yield "claims: without a script the table is not whole, or filters show that do nothing"


def try_methods(browser: Browser, site: Path) -> Iterator[str]:
    """The page on methods answers for a model that was measured, and says so for one that was not."""
    page = browser.new_page()
    page.goto((site / "which_method.html").resolve().as_uri())
    if "take" not in page.inner_text("#method-answer"):
        yield "which_method: no answer for the model that is chosen at first"
    page.select_option("[name=kind]", "mixture of experts")
    if "no model like yours" not in page.inner_text("#method-answer"):
        yield "which_method: does not say that a mixture of experts was not measured"


def try_tables(browser: Browser, site: Path) -> Iterator[str]:
    """A table of a notebook sorts both ways by its first column, and a long one filters."""
    page = browser.new_page()
    for path in sorted(site.glob("notebooks/[0-9]*.html")):
        page.goto(path.resolve().as_uri())
        first = "t => Array.from(t.tBodies[0].rows).map(r => r.cells[0].textContent)"
        tables = page.locator("table:has(button.sorts)")
        for table in (tables.nth(number) for number in range(tables.count())):
            page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
            button, before = table.locator("button.sorts").first, table.evaluate(first)
            button.click()
            up = table.evaluate(first)
            button.click()
            down = table.evaluate(first)
            if sorted(up) != sorted(before) or (up == down and len(set(before)) > 1):
                yield f"{path.name}: a click on a heading does not sort"
        filters = page.locator(".table-filter input")
        for field in (filters.nth(number) for number in range(filters.count())):
            field.fill("no row says this")
            if not field.locator("xpath=..").locator("output").inner_text().startswith("0 of"):
                yield f"{path.name}: a filter of rows does not filter"


def try_search(browser: Browser, site: Path) -> Iterator[str]:
    """The search finds a word, from a file."""
    page = browser.new_page()
    page.goto((site / "search.html").resolve().as_uri() + "?q=perplexity")
    page.wait_for_timeout(1500)
    if not page.locator("#search-results li").count():
        yield "search: finds nothing for 'perplexity'"


def check(site: Path, names: list[str], shots: Path | None) -> Iterator[str]:
    """All that is wrong with a site, one line each."""
    yield from find_broken(site)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for name in names:
            for width in WIDTHS:
                for scheme in ("light", "dark") if width == WIDTHS[0] else ("light",):
                    yield from look(browser, site, name, width, scheme, shots)
        for trial in (try_claims, try_methods, try_tables, try_search):
            yield from trial(browser, site)
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=Path, nargs="?", default=HERE.parents[1] / "site")
    parser.add_argument("--screenshots", type=Path, help="folder for pictures of all pages")
    parser.add_argument("--pages", nargs="+", help="look at these alone, such as claims.html")
    options = parser.parse_args()
    names, n_problems = options.pages or pages_to_see(options.site), 0
    for problem in check(options.site, names, options.screenshots):
        n_problems += 1
        print(problem, flush=True)
    print(f"{len(names)} pages: {n_problems or 'no'} problems")
    sys.exit(n_problems > 0)


if __name__ == "__main__":
    main()
