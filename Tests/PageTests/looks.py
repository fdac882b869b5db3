"""How the page looks and what assistive technology is told: colours, sizes, axe-core's rules."""

import colours
from scene import expect

PALETTE = """
const probe = document.createElement("span");
document.body.append(probe);
const read = (value) => { probe.style.color = value; return getComputedStyle(probe).color; };
const result = Object.fromEntries(["ink", "page", "surface", "none"].map((name) => [name, read(`var(--${name})`)]));
result.backs = Array.from({ length: 8 }, (_, i) => read(`var(--c${i})`));
result.marks = Array.from({ length: 8 }, (_, i) => read(`var(--l${i})`));
probe.remove();
return result;
"""


def check_palette(page, theme):
    found = page.run(PALETTE)
    backs, marks = found["backs"], found["marks"]
    text = min(colours.contrast(found["ink"], back) for back in [*backs, found["none"]])
    expect(text >= 4.5, f"{theme}: text on a token's background has contrast {text:.2f}")
    mark = min(
        min(colours.contrast(mark, ground) for ground in (back, found["page"], found["surface"]))
        for back, mark in zip(backs, marks)
    )
    expect(mark >= 3, f"{theme}: a mark has contrast {mark:.2f}")
    four, eight = colours.least_distance(backs[:4]), colours.least_distance(backs)
    expect(four >= 8, f"{theme}: two of the first four backgrounds are {four:.1f} apart for somebody")
    expect(eight >= 5, f"{theme}: two backgrounds are {eight:.1f} apart for somebody")
    return f"{theme}: text {text:.1f}:1, marks {mark:.1f}:1, least distance {four:.1f} of four, {eight:.1f} of eight"


def check_axe(page, axe, where):
    """No fault that axe-core finds, by the rules of WCAG 2.2 AA and its own best practices."""
    if not page.run("return 'axe' in window"):
        page.run(f"{axe}; window.axe = axe;")
    found = page.run_async("""
      const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
      const { violations, passes } = await axe.run(document, { runOnly: { type: "tag", values: tags } });
      const told = (rule, node) => `${rule.id}: ${node.html.slice(0, 200)}: ${node.failureSummary}`;
      const faults = violations.flatMap((rule) => rule.nodes.map((node) => told(rule, node)));
      return { faults, passed: passes.length };""")
    expect(found["passed"] > 15, f"{where}: axe-core applied only {found['passed']} rules")
    expect(found["faults"] == [], f"{where}: " + "; ".join(found["faults"][:5]))


def check_width(page, width, beside=".compare-table"):
    """Nothing is wider than the window, but what scrolls by itself: `beside`."""
    wide = page.run(
        """
      const wide = [];
      for (const e of $$("body *")) {
        if (!e.checkVisibility() || e.closest(`.visually-hidden, .skip, svg[hidden], ${arguments[0]}`)) continue;
        const box = e.getBoundingClientRect();
        if (box.width === 0 || (box.right <= innerWidth + 1 && box.left >= -1)) continue;
        wide.push(e.className || e.id || e.localName);
      }
      return [...new Set(wide)];""",
        beside,
    )
    expect(wide == [], f"at {width} px these are cut off: {wide}")
