internal import Core

/// The part of the report in which answers are read, coloured by expert.
enum ReportBrowser {
  /// Bytes of an answer that are shown at most.
  private static let maximumText = 8_000

  static func section(_ results: EvaluationResults, _ summary: EvaluationSummary, browsable: Int) -> String {
    let prompts = summary.tasks.flatMap { chosen(results, task: $0, count: browsable) }
    guard !prompts.isEmpty else { return "" }
    let options = summary.tasks.map { "<option>\(HTML.escaped($0))</option>" }.joined()
    let methods = summary.rows.map { "<option>\(HTML.escaped($0.method))</option>" }.joined()
    return """
      <h2>Answers</h2>
      <p class="note">Up to \(browsable) prompts of each task, first those on which methods disagree. Each token has the \
      colour and the underline of the expert that decided it.</p>
      \(EvaluationReport.legend(summary.experts))
      <noscript><p>Browsing answers needs JavaScript; the results file holds all of them.</p></noscript>
      <div class="controls">
      <label>task <select id="task"><option value="">all</option>\(options)</select></label>
      <label>method <select id="method"><option value="">all</option>\(methods)</select></label>
      <label>show <select id="outcome"><option value="">every prompt</option>
      <option value="right">\(HTML.escaped(summary.reference)) right</option>
      <option value="wrong">\(HTML.escaped(summary.reference)) wrong</option>
      <option value="only">only \(HTML.escaped(summary.reference)) right</option></select></label>
      <label>prompt <select id="prompt"></select></label>
      <button id="before" type="button">← previous</button><button id="after" type="button">next →</button></div>
      <div id="shown" aria-live="polite"></div>
      <script id="data" type="application/json">\(HTML.script(data(prompts, results, summary).text))</script>
      <script>\(script)</script>
      """
  }

  /// Prompts on which methods disagree before others; both in the order of the file.
  private static func chosen(_ results: EvaluationResults, task: String, count: Int) -> [EvaluationTask] {
    let all = results.tasks.filter { prompt in
      prompt.task == task && results.methods.contains { results.record($0, prompt) != nil }
    }
    func differs(_ task: EvaluationTask) -> Bool {
      Set(results.methods.compactMap { results.record($0, task)?.grade.passed }).count > 1
    }
    let split = all.filter(differs)
    let picked = Set((split + all.filter { !differs($0) }).prefix(count).map(\.id))
    return all.filter { picked.contains($0.id) }
  }

  private static func data(
    _ prompts: [EvaluationTask], _ results: EvaluationResults, _ summary: EvaluationSummary
  ) -> JSONValue {
    let experts = summary.experts
    func integer(_ value: Int) -> JSONValue { .integer(Int64(value)) }
    let list = prompts.map { task -> JSONValue in
      let answers = summary.rows.enumerated().compactMap { index, row -> JSONValue? in
        guard let record = results.record(row.method, task) else { return nil }
        var members: [(String, JSONValue)] = [
          ("m", integer(index)), ("p", .bool(record.grade.passed)), ("n", integer(record.generatedTokens)),
          ("s", .array(spans(record, experts: experts))),
        ]
        if let chosen = record.chosen { members.append(("c", .string(chosen))) }
        if let reason = record.grade.reason { members.append(("r", .string(String(reason.prefix(300))))) }
        if !record.grade.parts.isEmpty {
          members.append(("q", .members(record.grade.parts.map { ($0.name, .bool($0.passed)) })))
        }
        return .members(members)
      }
      return .members([
        ("id", .string(task.id)), ("task", .string(task.task)),
        ("prompt", .string(String(task.prompt.prefix(maximumText)))), ("answers", .array(answers)),
      ])
    }
    return .members([
      ("methods", .array(summary.rows.map { .string($0.method) })), ("reference", .string(summary.reference)),
      ("classes", .array(experts.indices.map { .string(ReportStyle.classes($0)) })),
      ("experts", .array(experts.map { .string($0) })), ("prompts", .array(list)),
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
    let list = [];
    const make = (tag, attributes = {}, ...children) => {
      const element = Object.assign(document.createElement(tag), attributes);
      element.append(...children);
      return element;
    };
    function filter() {
      const [task, outcome] = [pick("task").value, pick("outcome").value];
      list = data.prompts.filter((prompt) => {
        if (task && prompt.task !== task) return false;
        const own = prompt.answers.find((answer) => answer.m === reference);
        if (outcome === "right") return own?.p === true;
        if (outcome === "wrong") return own?.p === false;
        if (outcome === "only") return own?.p && prompt.answers.every((answer) => answer === own || !answer.p);
        return true;
      });
      pick("prompt").replaceChildren(...list.map((prompt, i) => make("option", { value: i, textContent: prompt.id })));
      show();
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
    function show() {
      const prompt = list[pick("prompt").value];
      if (!prompt) return pick("shown").replaceChildren(make("p", { className: "note", textContent: "No such prompt." }));
      const method = pick("method").value;
      const shown = prompt.answers.filter((answer) => !method || data.methods[answer.m] === method);
      pick("shown").replaceChildren(
        make("div", { className: "prompt", textContent: prompt.prompt }),
        make("div", { className: "answers" }, ...shown.map(article)));
    }
    function step(by) {
      if (list.length === 0) return;
      pick("prompt").value = (Number(pick("prompt").value) + by + list.length) % list.length;
      show();
    }
    for (const id of ["task", "outcome"]) pick(id).addEventListener("change", filter);
    for (const id of ["method", "prompt"]) pick(id).addEventListener("change", show);
    pick("before").addEventListener("click", () => step(-1));
    pick("after").addEventListener("click", () => step(1));
    filter();
    """
}
