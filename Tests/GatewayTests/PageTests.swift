import Foundation
import TestSupport
import Testing

/// How the page is served; what it does is checked in a browser by Deploy/checks/page.
@Suite(.serialized) struct PageTests {
  private static let site = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("../../Sources/Gateway/Page/Site").standardizedFileURL

  @Test("every file of the page is in the program, as it is in the sources, and needs no key")
  func files() async throws {
    let folder = try Scratch("page")
    let keys = folder.path("keys")
    try Data("somebody \(String(repeating: "0", count: 64))\n".utf8).write(to: URL(fileURLWithPath: keys))
    let names = try FileManager.default.contentsOfDirectory(atPath: Self.site.path)
    #expect(names.count > 15)
    let types = ["html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"]
    try await withGateway(configure: { $0.apiKeys = keys }) { gateway in
      #expect(try await gateway.get("/v1/models").status == 401)
      for name in names {
        let path = name == "index.html" ? "/" : "/page/\(name)"
        let answer = try await gateway.get(path)
        #expect(answer.status == 200, "\(name)")
        let source = try Data(contentsOf: Self.site.appendingPathComponent(name))
        #expect(Data(answer.body) == source, "\(name)")
        let type = try #require(types[String(name.split(separator: ".").last ?? "")])
        #expect(answer.headers["content-type"]?.hasPrefix(type) == true, "\(name)")
        let policy = answer.headers["content-security-policy"] ?? ""
        #expect(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "\(name)")
        #expect(answer.headers["x-content-type-options"] == "nosniff", "\(name)")
        let tag = try #require(answer.headers["etag"])
        for known in [tag, "\"x\", \(tag)"] {
          let again = try await gateway.get(path, headers: ["if-none-match": known])
          #expect(again.status == 304 && again.body.isEmpty && again.headers["etag"] == tag, "\(name)")
        }
        #expect(try await gateway.get(path, headers: ["if-none-match": "\"x\""]).status == 200, "\(name)")
      }
      let head = try await gateway.send("HEAD", "/", body: nil)
      #expect(head.status == 200 && head.body.isEmpty)
      for path in ["/page/none.js", "/page/..%2Findex.html"] {
        let answer = try await gateway.get(path)
        #expect(answer.status == 404, "\(path)")
        #expect(try answer.string("error", "code") == "unknown_route", "\(path)")
      }
    }
  }

  @Test("the page names no file that it does not have, and nothing from elsewhere")
  func references() throws {
    let names = Set(try FileManager.default.contentsOfDirectory(atPath: Self.site.path))
    let reference = /(?:from "\.\/|(?:src|href)="\/page\/)(?<name>[^"]*)"/
    var used: Set<String> = ["index.html"]
    for name in names {
      let text = try String(contentsOf: Self.site.appendingPathComponent(name), encoding: .utf8)
      for match in text.matches(of: reference) {
        #expect(names.contains(String(match.name)), "\(name) names \(match.name)")
        used.insert(String(match.name))
      }
      #expect(!text.contains("innerHTML") && !text.contains("insertAdjacentHTML") && !text.contains("eval("), "\(name)")
      if name.hasSuffix(".html") || name.hasSuffix(".css") {
        #expect(!text.contains("://"), "\(name) names another server")
      }
    }
    #expect(used == names, "not used: \(names.subtracting(used))")
  }
}
