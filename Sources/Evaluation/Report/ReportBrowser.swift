internal import Core

/// The part of the report in which answers are read, coloured by expert.
enum ReportBrowser {
  /// Bytes of an answer that are shown at most.
  private static let maximumText = 8_000
  /// Characters of what the grader knows that are shown at most.
  private static let maximumGrader = 2_000

  /// - Parameters:
  ///   - limit: prompts of each task at most; nil: all that fit.
  ///   - maximumBytes: of all prompts with their answers, as JSON.
  static func section(
    _ results: EvaluationResults, _ summary: EvaluationSummary, limit: Int?, maximumBytes: Int
  ) -> String {
    let answered = summary.tasks.map { name in
      results.tasks.filter { prompt in
        prompt.task == name && results.methods.contains { results.record($0, prompt) != nil }
      }
    }
    let prompts = chosen(answered, limit: limit, maximumBytes: maximumBytes) { item($0, results, summary) }
    let count = prompts.reduce(0) { $0 + $1.count }
    guard count > 0 else { return "" }
    let all = answered.reduce(0) { $0 + $1.count }
    // An option without a value is its text with white space collapsed.
    func option(_ name: String) -> String {
      "<option value='\(HTML.escaped(name))'>\(HTML.escaped(name))</option>"
    }
    let tasks = summary.tasks.map(option).joined()
    let own = HTML.escaped(summary.reference)
    // A mean has no answers of its own.
    let others = summary.rows.map(\.method).filter { $0 != summary.reference && results.means[$0] == nil }
    let experts = others.contains { summary.experts.contains($0) }
    let with =
      (experts ? "<option value='*'>every expert</option>" : "")
      + others.map(option).joined()
    let part = count < all ? "The first \(count) of \(all) prompts; the results file holds all of them. " : ""
    let data = data(prompts.flatMap { $0 }, summary)
    return """
      <h2 id="answers">Answers</h2>
      <p class="note">\(part)Each token has the colour and the underline of the expert that decided it. The address of this page \
      follows what is shown.</p>
      \(EvaluationReport.legend(summary.experts))
      <noscript><p>Browsing answers needs JavaScript; the results file holds all of them.</p></noscript>
      <div class="controls">
      <label>task <select id="task"><option value="">all</option>\(tasks)</select></label>
      <label>tag <select id="tag"></select></label>
      <label>compare \(own) with <select id="with"><option value="">nothing</option>\(with)</select></label>
      <label>show <select id="show"><option value="">every prompt</option>
      <option value="right">\(own) right</option><option value="wrong">\(own) wrong</option>
      <option value="several">\(own) right, by several experts</option>
      <option value="won">\(own) right, the other wrong</option><option value="lost">\(own) wrong, the other right</option>
      <option value="both">both right</option><option value="neither">both wrong</option></select></label>
      <label>containing <input id="find" type="search"></label>
      <label><span id="count" aria-live="polite">prompt</span><select id="prompt"></select></label>
      <button id="before" type="button">← previous</button><button id="after" type="button">next →</button></div>
      <div id="shown" aria-live="polite"></div>
      <script id="data" type="application/json">\(HTML.script(data.text))</script>
      <script>\(script)</script>
      """
  }

  /// As many prompts of each task as there is room for, the first ones; of each task equally many.
  static func chosen(
    _ tasks: [[EvaluationTask]], limit: Int?, maximumBytes: Int, item: (EvaluationTask) -> JSONValue
  ) -> [[JSONValue]] {
    var chosen: [[JSONValue]] = tasks.map { _ in [] }
    var bytes = 0
    for index in 0..<min(limit ?? .max, tasks.map(\.count).max() ?? 0) {
      for (place, prompts) in tasks.enumerated() where index < prompts.count {
        let item = item(prompts[index])
        bytes += item.text.utf8.count
        guard bytes <= maximumBytes else { return chosen }
        chosen[place].append(item)
      }
    }
    return chosen
  }

  private static func item(
    _ task: EvaluationTask, _ results: EvaluationResults, _ summary: EvaluationSummary
  ) -> JSONValue {
    func integer(_ value: Int) -> JSONValue { .integer(Int64(value)) }
    let answers = summary.rows.enumerated().compactMap { index, row -> JSONValue? in
      guard let record = results.record(row.method, task) else { return nil }
      var members: [(String, JSONValue)] = [
        ("m", integer(index)), ("p", .bool(record.grade.passed)), ("n", integer(record.generatedTokens)),
        ("s", .array(spans(record, experts: summary.experts))),
      ]
      let deciding = record.decidingExperts.count
      if deciding > 1 { members.append(("e", integer(deciding))) }
      if let chosen = record.chosen { members.append(("c", .string(chosen))) }
      if let reason = record.grade.reason { members.append(("r", .string(String(reason.prefix(300))))) }
      if !record.grade.parts.isEmpty {
        members.append(("q", .members(record.grade.parts.map { ($0.name, .bool($0.passed)) })))
      }
      return .members(members)
    }
    return .members([
      ("id", .string(task.id)), ("task", .string(task.task)),
      ("prompt", .string(String(task.prompt.prefix(maximumText)))),
      ("tags", .array(task.tags.map { .string("\($0.name): \($0.value)") })),
      ("wants", .string(String(task.grader.text.prefix(maximumGrader)))), ("answers", .array(answers)),
    ])
  }

  private static func data(_ prompts: [JSONValue], _ summary: EvaluationSummary) -> JSONValue {
    let experts = summary.experts
    return .members([
      ("methods", .array(summary.rows.map { .string($0.method) })), ("reference", .string(summary.reference)),
      ("classes", .array(experts.indices.map { .string(ReportStyle.classes($0)) })),
      ("experts", .array(experts.map { .string($0) })), ("prompts", .array(prompts)),
    ])
  }

  /// Runs of tokens that one expert decided: `[expert or -1, text]`.
  static func spans(_ record: AnswerRecord, experts: [String]) -> [JSONValue] {
    var spans: [(expert: Int, text: String)] = []
    var left = maximumText
    for (piece, decider) in zip(record.pieces, record.deciders) where left > 0 {
      let name = decider.flatMap { record.experts.indices.contains($0) ? record.experts[$0] : nil }
      let expert = name.flatMap { experts.firstIndex(of: $0) } ?? -1
      if spans.last?.expert == expert { spans[spans.count - 1].text += piece } else { spans.append((expert, piece)) }
      left -= piece.utf8.count
    }
    if spans.allSatisfy({ $0.text.isEmpty }) { spans = [(-1, String(record.text.prefix(maximumText)))] }
    return spans.map { .array([.integer(Int64($0.expert)), .string($0.text)]) }
  }

  private static let script = """
    "use strict";
    const data = JSON.parse(document.getElementById("data").textContent);
    const pick = (id) => document.getElementById(id);
    const reference = data.methods.indexOf(data.reference);
    const inputs = ["task", "tag", "with", "show", "find"];
    // Tags with more values than this tell prompts apart, not kinds of them.
    const mostValues = 40;
    let list = [];
    const make = (tag, attributes = {}, ...children) => {
      const element = Object.assign(document.createElement(tag), attributes);
      element.append(...children);
      return element;
    };
    const answerOf = (prompt, method) => prompt.answers.find((answer) => answer.m === method);
    // Whether the other is right: the method, or any expert; undefined where it has no answer.
    function otherPasses(prompt, other) {
      if (other !== "*") return answerOf(prompt, data.methods.indexOf(other))?.p;
      const experts = prompt.answers.filter((answer) => data.experts.includes(data.methods[answer.m]));
      return experts.length ? experts.some((answer) => answer.p) : undefined;
    }
    function fits(prompt, show, other) {
      const own = answerOf(prompt, reference);
      if (!show) return true;
      if (!own) return false;
      if (show === "right") return own.p;
      if (show === "wrong") return !own.p;
      if (show === "several") return own.p && own.e > 1;
      const passes = otherPasses(prompt, other);
      if (passes === undefined) return false;
      return own.p === (show === "won" || show === "both") && passes === (show === "lost" || show === "both");
    }
    function fillTags() {
      const task = pick("task").value;
      const values = new Map();
      for (const prompt of data.prompts) {
        if (task && prompt.task !== task) continue;
        for (const tag of prompt.tags) {
          const name = tag.split(":", 1)[0];
          if (!values.has(name)) values.set(name, new Set());
          values.get(name).add(tag);
        }
      }
      const groups = [...values].filter(([, tags]) => tags.size <= mostValues).flatMap(([, tags]) => [...tags].sort());
      const before = pick("tag").value;
      pick("tag").replaceChildren(make("option", { value: "", textContent: "all" }),
        ...groups.map((tag) => make("option", { value: tag, textContent: tag })));
      pick("tag").value = groups.includes(before) ? before : "";
    }
    function filter(id) {
      const [task, tag, other, show] = ["task", "tag", "with", "show"].map((name) => pick(name).value);
      const words = pick("find").value.trim().toLowerCase();
      const ofTask = data.prompts.filter((prompt) => !task || prompt.task === task);
      list = ofTask.filter((prompt) => (!tag || prompt.tags.includes(tag)) && fits(prompt, show, other)
        && (!words || `${prompt.id} ${prompt.prompt}`.toLowerCase().includes(words)));
      for (const option of pick("show").options) {
        option.disabled = !other && ["won", "lost", "both", "neither"].includes(option.value);
      }
      pick("prompt").replaceChildren(...list.map((prompt, i) => make("option", { value: i, textContent: prompt.id })));
      pick("prompt").value = Math.max(0, list.findIndex((prompt) => prompt.id === id));
      pick("count").textContent = `${list.length} of ${ofTask.length} prompts`;
      display();
    }
    function article(answer) {
      const facts = [answer.p ? "✓ right" : "✗ wrong"];
      for (const [name, passed] of Object.entries(answer.q ?? {})) facts.push(`${name} ${passed ? "✓" : "✗"}`);
      if (answer.c) facts.push(`chose ${answer.c}`);
      facts.push(`${answer.n} tokens`);
      const text = make("div", { className: "text" });
      for (const [expert, part] of answer.s) {
        const name = expert < 0 ? "" : data.experts[expert];
        text.append(make("span", {
          className: expert < 0 ? "" : `t ${data.classes[expert]}`, textContent: part, title: name,
        }));
      }
      const head = make("h3", { textContent: data.methods[answer.m] });
      const line = make("p", { className: `note ${answer.p ? "good" : "bad"}`, textContent: facts.join(" · ") });
      const parts = [head, line, text];
      if (answer.r) parts.push(make("p", { className: "note", textContent: answer.r }));
      return make("article", {}, ...parts);
    }
    function display() {
      const prompt = list[pick("prompt").value];
      remember(prompt);
      if (!prompt) return pick("shown").replaceChildren(make("p", { className: "note", textContent: "No such prompt." }));
      const other = data.methods.indexOf(pick("with").value);
      // The two that are compared stand first.
      const rank = (answer) => answer.m === reference ? 0 : answer.m === other ? 1 : 2;
      const shown = [...prompt.answers].sort((a, b) => rank(a) - rank(b) || a.m - b.m);
      pick("shown").replaceChildren(
        make("div", { className: "prompt", textContent: prompt.prompt }),
        make("details", {}, make("summary", { textContent: "what the grader knows" }),
          make("p", { className: "note", textContent: prompt.tags.join(" · ") }),
          make("div", { className: "prompt", textContent: prompt.wants })),
        make("div", { className: "answers" }, ...shown.map(article)));
    }
    function remember(prompt) {
      const state = new URLSearchParams();
      for (const id of inputs) if (pick(id).value) state.set(id, pick(id).value);
      if (prompt) state.set("id", prompt.id);
      try { history.replaceState(null, "", `#${state}`); } catch { /* some browsers forbid it for files */ }
    }
    // What a link asks for.
    function recall(moves) {
      const state = new URLSearchParams(location.hash.slice(1));
      const set = (id) => {
        pick(id).value = state.get(id) ?? "";
        if (pick(id).selectedIndex === -1) pick(id).value = "";
      };
      set("task");
      fillTags();
      for (const id of inputs.slice(1)) set(id);
      filter(state.get("id"));
      if (moves) pick("answers").scrollIntoView();
    }
    function step(by) {
      if (list.length === 0) return;
      pick("prompt").value = (Number(pick("prompt").value) + by + list.length) % list.length;
      display();
    }
    pick("task").addEventListener("change", fillTags);
    pick("with").addEventListener("change", () => {
      if (!pick("with").value && ["won", "lost", "both", "neither"].includes(pick("show").value)) pick("show").value = "";
    });
    for (const id of inputs) pick(id).addEventListener(id === "find" ? "input" : "change", () => filter());
    pick("prompt").addEventListener("change", display);
    pick("before").addEventListener("click", () => step(-1));
    pick("after").addEventListener("click", () => step(1));
    window.addEventListener("hashchange", () => recall(true));
    recall(location.hash.length > 1);
    """
}
