import Foundation
import Testing

@testable import EngramClient

@Suite("Templates")
struct TemplateTests {
  private func review() -> MessageTemplate {
    MessageTemplate(
      name: "review",
      parameters: [
        .init(name: "repository", type: .string), .init(name: "pull", type: .integer),
        .init(name: "files", type: .list, required: false),
        .init(name: "urgent", type: .boolean, required: false),
        .init(name: "load", type: .number, default: .number(0.5)),
      ],
      body:
        "{{repository}}#{{pull}} at {{load}}{{#files}}\n- {{.}}{{/files}}"
        + "{{#urgent}}!{{/urgent}}{{^urgent}}.{{/urgent}}",
      type: "TASK_REQUEST", priority: "HIGH")
  }

  private func kind(of value: TemplateValue) -> MessageTemplate.Parameter.Kind {
    switch value {
    case .list: .list
    case .boolean: .boolean
    case .integer: .integer
    case .number: .number
    case .string: .string
    }
  }

  private func text(_ body: String, _ values: [String: TemplateValue] = [:]) throws -> String {
    let parameters = values.map { MessageTemplate.Parameter(name: $0.key, type: kind(of: $0.value)) }
    return try MessageTemplate(name: "t", parameters: parameters, body: body).rendered(values)
  }

  private func refuses(_ what: Comment, _ body: () throws -> Void) {
    let error = #expect(throws: EngramError.self, what) { try body() }
    #expect(error?.name == "template-invalid", what)
  }

  @Test("every type is filled in; lists and booleans make sections")
  func rendering() throws {
    let all: [String: TemplateValue] = [
      "repository": .string("acme/web"), "pull": .integer(7), "files": .list(["a.swift", "b.swift"]),
      "urgent": .boolean(true), "load": .number(2.25),
    ]
    #expect(try review().rendered(all) == "acme/web#7 at 2.25\n- a.swift\n- b.swift!")
    let few: [String: TemplateValue] = ["repository": .string("acme/web"), "pull": .integer(7)]
    #expect(
      try review().rendered(few) == "acme/web#7 at 0.5.", "defaults, and nothing where nothing is needed")
    #expect(try review().rendered(few.merging(["files": .list([])]) { $1 }) == "acme/web#7 at 0.5.")
    #expect(try review().rendered(few.merging(["load": .integer(3)]) { $1 }) == "acme/web#7 at 3.0.")
  }

  @Test("nothing is escaped, and a value is never read as a template")
  func plainText() throws {
    let value = TemplateValue.string(#"<b>"Tom" & 'Ann'</b> {{secret}} {{> file}}"#)
    guard case .string(let expected) = value else { return }
    for body in ["{{x}}", "{{{x}}}", "{{& x }}", "{{ x }}"] {
      #expect(try text(body, ["x": value]) == expected, "\(body)")
    }
    #expect(try text("a {{! a note }}b") == "a b")
    #expect(try text("{{#l}}<{{.}}>{{/l}}", ["l": .list(["1 < 2", "&"])]) == "<1 < 2><&>")
  }

  @Test("a missing, an extra and a wrongly typed value are refused, and named")
  func values() throws {
    let good: [String: TemplateValue] = ["repository": .string("acme/web"), "pull": .integer(7)]
    _ = try review().rendered(good)
    let cases: [(String, [String: TemplateValue])] = [
      ("'pull'", ["repository": .string("a")]), ("'repository'", ["pull": .integer(1)]),
      ("'colour'", good.merging(["colour": .string("red")]) { $1 }),
      ("'pull'", good.merging(["pull": .string("7")]) { $1 }),
      ("'pull'", good.merging(["pull": .number(7.5)]) { $1 }),
      ("'files'", good.merging(["files": .string("a")]) { $1 }),
      ("'urgent'", good.merging(["urgent": .integer(1)]) { $1 }),
    ]
    for (name, values) in cases {
      let error = #expect(throws: EngramError.self) { try review().rendered(values) }
      #expect(error?.name == "template-invalid" && error?.code == 416, "\(name)")
      #expect(error?.message.contains(name) == true, "\(error?.message ?? "")")
    }
  }

  @Test(
    "a text that does more than fill declared holes is refused",
    arguments: [
      "{{y}}", "{{x.y}}", "{{.}}", "{{uppercased(x)}}", "{{> other}}", "{{< other}}{{/other}}",
      "{{$ block}}{{/block}}", "{{=<% %>=}}", "{{%CONTENT_TYPE:TEXT}}", "{{>*x}}", "{{", "{{x", "{{{x}}",
      "{{}}",
      "{{#x}}", "{{/x}}", "{{#x}}{{/y}}", "{{#x}}{{^x}}{{/x}}", "{{\u{301}y}}", "{{\u{301}> other}}",
    ])
  func badText(_ body: String) {
    let template = MessageTemplate(name: "t", parameters: [.init(name: "x", type: .string)], body: body)
    refuses("\(body)") { try template.validate() }
    refuses("\(body)") { _ = try template.rendered(["x": .string("1")]) }
  }

  @Test("a declaration that is not one is refused")
  func declarations() throws {
    try review().validate()
    func changed(_ change: (inout MessageTemplate) -> Void) -> MessageTemplate {
      var template = review()
      change(&template)
      return template
    }
    let bad: [MessageTemplate] = [
      changed { $0.name = "" }, changed { $0.name = "Review" }, changed { $0.name = "../review" },
      changed { $0.name = String(repeating: "a", count: 64) }, changed { $0.type = "SHOUT" },
      changed { $0.priority = "HIGHEST" }, changed { $0.contentType = "text" },
      changed { $0.body = String(repeating: "a", count: TemplateLimits.bodyBytesMax + 1) },
      changed { $0.description = String(repeating: "a", count: TemplateLimits.descriptionBytesMax + 1) },
      changed { $0.parameters.append($0.parameters[0]) },
      changed { $0.parameters.append(.init(name: "1st", type: .string)) },
      changed { $0.parameters.append(.init(name: "n", type: .integer, default: .string("x"))) },
      changed { template in
        template.parameters += (0..<TemplateLimits.parametersMax).map { .init(name: "p\($0)", type: .string) }
      },
    ]
    for template in bad {
      refuses("\(template.name) \(template.parameters.count)") { try template.validate() }
    }
  }

  @Test("arguments of a command line are read as the declared types")
  func arguments() throws {
    let values = try review().values(fromArguments: ["repository=a=b", "pull=7", "files=x,y", "urgent=yes"])
    #expect(
      values == [
        "repository": .string("a=b"), "pull": .integer(7), "files": .list(["x", "y"]),
        "urgent": .boolean(true),
      ])
    for bad in [["pull"], ["pull=seven"], ["urgent=maybe"], ["load=inf"], ["pull=1", "pull=2"]] {
      refuses("\(bad)") { _ = try review().values(fromArguments: bad) }
    }
  }

  @Test("the document says what its fields say, and little is enough")
  func document() throws {
    let small = #"{"name": "hello", "body": "Hello {{who}}", "parameters": [{"name": "who"}]}"#
    let template = try JSONDecoder().decode(MessageTemplate.self, from: Data(small.utf8))
    #expect(template.parameters == [.init(name: "who", type: .string)])
    #expect(try template.rendered(["who": .string("world")]) == "Hello world")
    #expect(try MessageTemplate(json: Array(small.utf8)) == template)
    let again = try JSONDecoder().decode(MessageTemplate.self, from: try JSONEncoder().encode(review()))
    #expect(again == review())
  }

  @Test(
    "a document with a key that is not known, or there twice, is refused",
    arguments: [
      (#"{"name": "t", "body": "x", "extra": 1}"#, "unknown key in the template: 'extra'"),
      (#"{"name": "t", "body": "x", "Body": "y"}"#, "unknown key in the template: 'Body'"),
      (
        #"{"name": "t", "body": "x", "parameters": [{"name": "a"}, {"name": "b", "kind": "list"}]}"#,
        "unknown key in the parameter: 'kind'"
      ),
      (#"{"name": "t", "body": "x", "body": "y"}"#, "'body' twice"),
      (#"{"name": "t", "body": "x", "parameters": [{"name": "a", "name": "b"}]}"#, "'name' twice"),
      (#"{"name": "t"}"#, "not a template"), (#"["name"]"#, "not a template"), ("{", "not a template"),
      ("", "not a template"), (#"{"name": 7, "body": "x"}"#, "not a template"),
    ])
  func badDocuments(_ json: String, _ words: String) {
    let error = #expect(throws: EngramError.self) { _ = try MessageTemplate(json: Array(json.utf8)) }
    #expect(error?.name == "template-invalid" && error?.kind == .badInput)
    #expect(error?.message.contains(words) == true, "\(error?.message ?? "")")
  }
}
