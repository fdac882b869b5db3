"""How the page looks and what assistive technology is told: colours, names, sizes."""

import colours
from scene import expect

# Every element that shows text of its own: its colour, and the colour behind it.
TEXT_COLOURS = """
const seen = new Map();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node; (node = walker.nextNode()); ) {
  const element = node.parentElement;
  if (node.data.trim() === "" || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
  if (element.closest(".visually-hidden, .skip, option, :disabled, noscript, .stale")) continue;
  let opacity = 1;
  let back = null;
  for (let e = element; e; e = e.parentElement) {
    const style = getComputedStyle(e);
    opacity *= Number(style.opacity);
    if (back === null && !/, 0\\)$|transparent/.test(style.backgroundColor)) back = style.backgroundColor;
  }
  const colour = getComputedStyle(element).color;
  seen.set(`${colour} ${back} ${opacity}`, { colour, back, opacity, text: node.data.trim().slice(0, 30), on: element.className || element.localName });
}
return [...seen.values()];
"""

PALETTE = """
const probe = document.createElement("span");
document.body.append(probe);
const read = (value) => { probe.style.color = value; return getComputedStyle(probe).color; };
const result = { ink: read("var(--ink)"), page: read("var(--page)"), surface: read("var(--surface)"), none: read("var(--none)") };
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
    mark = min(min(colours.contrast(mark, ground) for ground in (back, found["page"], found["surface"]))
               for back, mark in zip(backs, marks))
    expect(mark >= 3, f"{theme}: a mark has contrast {mark:.2f}")
    four, eight = colours.least_distance(backs[:4]), colours.least_distance(backs)
    expect(four >= 8, f"{theme}: two of the first four backgrounds are {four:.1f} apart for somebody")
    expect(eight >= 5, f"{theme}: two backgrounds are {eight:.1f} apart for somebody")
    return f"{theme}: text {text:.1f}:1, marks {mark:.1f}:1, least distance {four:.1f} of four, {eight:.1f} of eight"


def check_text_contrast(page, theme):
    found = page.run(TEXT_COLOURS)
    expect(len(found) > 5, f"{theme}: only {len(found)} kinds of text found")
    for item in found:
        if item["opacity"] < 1:
            continue
        contrast = colours.contrast(item["colour"], item["back"])
        expect(contrast >= 4.5, f"{theme}: {item['text']!r} on {item['on']} has contrast {contrast:.2f} ({item})")
    return min(colours.contrast(item["colour"], item["back"]) for item in found if item["opacity"] == 1)


def check_names(page, least=10):
    """What Chromium's accessibility tree says: everything that can be used has a name."""
    nodes = page.devtools("Accessibility.getFullAXTree")["nodes"]
    usable = {"button", "textbox", "combobox", "slider", "spinbutton", "checkbox", "radio", "tab", "link", "searchbox",
              "dialog", "tabpanel", "img", "table"}
    counted = 0
    for node in nodes:
        role = node.get("role", {}).get("value")
        if node.get("ignored") or role not in usable:
            continue
        counted += 1
        # Tables have captions where they are not the only thing in a named group.
        if role != "table":
            expect(node.get("name", {}).get("value", "").strip(), f"a {role} has no name: {node.get('properties')}")
    expect(counted >= least, f"only {counted} controls in the accessibility tree")
    faults = page.run("""
      const faults = [];
      const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
      for (const id of new Set(ids)) if (ids.filter((other) => other === id).length > 1) faults.push(`id ${id} twice`);
      for (const label of document.querySelectorAll("label[for]")) if (!document.getElementById(label.htmlFor)) faults.push(`label for ${label.htmlFor}`);
      for (const name of ["aria-controls", "aria-labelledby", "aria-describedby"])
        for (const e of document.querySelectorAll(`[${name}]`)) if (!document.getElementById(e.getAttribute(name))) faults.push(`${name} ${e.getAttribute(name)}`);
      if (!document.documentElement.lang) faults.push("no language");
      if (document.querySelectorAll("main").length !== 1 || document.querySelectorAll("h1").length !== 1) faults.push("not one main and h1");
      for (const e of document.querySelectorAll("button")) if (!e.type) faults.push("a button without type");
      for (const e of document.querySelectorAll("[tabindex]")) if (e.tabIndex > 0) faults.push("a positive tabindex");
      return faults;""")
    expect(faults == [], f"faults in the document: {faults}")
    return counted


def check_width(page, width):
    """Nothing is wider than the window, but what scrolls by itself."""
    wide = page.run("""
      const wide = [];
      for (const e of document.querySelectorAll("body *")) {
        if (!e.checkVisibility() || e.closest(".visually-hidden, .skip, .compare-table, svg[hidden]")) continue;
        const box = e.getBoundingClientRect();
        if (box.width > 0 && (box.right > innerWidth + 1 || box.left < -1)) wide.push(e.className || e.id || e.localName);
      }
      return [...new Set(wide)];""")
    expect(wide == [], f"at {width} px these are cut off: {wide}")


def check_targets(page):
    """Buttons are at least 24 by 24 pixels (WCAG 2.2, 2.5.8)."""
    small = page.run("""
      return [...document.querySelectorAll("button, select, summary, input")].filter((e) => e.checkVisibility()).map((e) => [e.textContent.trim() || e.title || e.id, (e.closest("label") ?? e).getBoundingClientRect()])
        .filter(([, box]) => box.height < 24 || box.width < 24).map(([name, box]) => `${name}: ${box.width} x ${box.height}`);""")
    expect(small == [], f"too small to hit: {small}")
