internal import ArgumentParser
internal import EngramClient
internal import Foundation

struct TemplateCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "template",
    abstract: "Messages with holes, shared by the clients of a node.",
    discussion: """
      A template is a JSON document with a name, typed parameters and a Mustache text:

        {"name": "review", "type": "TASK_REQUEST", "priority": "HIGH",
         "parameters": [{"name": "repository"}, {"name": "pull", "type": "integer"},
                        {"name": "files", "type": "list", "required": false}],
         "body": "Review {{repository}}#{{pull}}{{#files}}\\n- {{.}}{{/files}}"}

      Types: string, integer, number, boolean, list. The node keeps every version; what a version says never \
      changes. It is filled in on this machine, before sealing: nobody else sees the values.

      Examples:
        engram template put review.json
        engram template render review --param repository=acme/web --param pull=7
        engram send --to worker@globex.example --template review --param repository=acme/web --param pull=7
      """,
    subcommands: [Put.self, List.self, Show.self, Render.self])

  struct Put: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Store a template, or the next version of one of yours.",
      discussion: """
        Example:
          engram template put review.json
        """)

    @Argument(help: ArgumentHelp("The template's JSON document.", valueName: "file"), completion: .file())
    var file: String

    @OptionGroup var common: CommonOptions

    func run() async throws {
      let template = try MessageTemplate(file: file)
      let stored = try await common.withClient { try await $0.putTemplate(template) }
      let form = TemplateForm(stored, withBody: false)
      try Terminal.write(common.json ? jsonLine(form) : form.line)
    }
  }

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "List the templates of this organisation.",
      discussion: """
        Example:
          engram template list --json
        """)

    @OptionGroup var common: CommonOptions

    func run() async throws {
      let all = try await common.withClient { try await $0.templates() }
      if all.isEmpty, !common.json { Terminal.note("no templates") }
      for entry in all {
        let form = TemplateForm(entry, withBody: false)
        try Terminal.write(common.json ? jsonLine(form) : form.line)
      }
    }
  }

  struct Show: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Show a template with its parameters.",
      discussion: """
        Example:
          engram template show review
        """)

    @OptionGroup var which: WhichTemplate
    @OptionGroup var common: CommonOptions

    func run() async throws {
      let entry = try await common.withClient { try await which.template($0) }
      let form = TemplateForm(entry, withBody: true)
      try Terminal.write(common.json ? jsonLine(form) : form.text)
    }
  }

  struct Render: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Fill a template in and print the result; nothing is sent.",
      discussion: """
        Example:
          engram template render review --param repository=acme/web --param pull=7
        """)

    @OptionGroup var which: WhichTemplate

    @Option(
      help: ArgumentHelp(
        "A value; repeat it for more. Members of a list are separated by commas.", valueName: "name=value"))
    var param: [String] = []

    @OptionGroup var common: CommonOptions

    func run() async throws {
      let entry = try await common.withClient { try await which.template($0) }
      let text = try entry.template.rendered(try entry.template.values(fromArguments: param))
      try Terminal.write(common.json ? jsonLine(["body": text]) : text)
    }
  }
}

struct WhichTemplate: ParsableArguments {
  @Argument(help: "The template's name.")
  var name: String

  @Option(help: ArgumentHelp("A version (default: the newest).", valueName: "number"))
  var templateVersion: Int?

  func template(_ client: EngramClient) async throws -> SharedTemplate {
    try await client.template(name, version: templateVersion)
  }
}

/// What `send` takes its body from.
struct TemplateOptions: ParsableArguments {
  @Option(help: ArgumentHelp("The body is this template, filled in on this machine.", valueName: "name"))
  var template: String?

  @Option(help: ArgumentHelp("A version of the template (default: the newest).", valueName: "number"))
  var templateVersion: Int?

  @Option(
    help: ArgumentHelp(
      "A value for the template; repeat it for more. Members of a list are separated by commas.",
      valueName: "name=value"))
  var param: [String] = []

  func validate() throws {
    guard template != nil || (templateVersion == nil && param.isEmpty) else {
      throw ValidationError("--template-version and --param need --template")
    }
  }

  /// nil without a template.
  func filled(by client: EngramClient) async throws -> (template: MessageTemplate, body: [UInt8])? {
    guard let template else { return nil }
    let found = try await client.template(template, version: templateVersion).template
    return (found, Array(try found.rendered(try found.values(fromArguments: param)).utf8))
  }
}

extension MessageTemplate {
  fileprivate init(file: String) throws {
    guard let data = FileManager.default.contents(atPath: file) else {
      throw ValidationError("\(file): cannot be read")
    }
    try self.init(json: Array(data))
  }
}

struct TemplateForm: Encodable {
  let name: String
  let version: Int
  let author: String
  let createdMs: UInt64
  let description: String?
  let parameters: [MessageTemplate.Parameter]
  let type: String?
  let priority: String?
  let contentType: String
  let body: String?

  init(_ entry: SharedTemplate, withBody: Bool) {
    let template = entry.template
    (name, version, author, createdMs) = (template.name, template.version, entry.author, entry.createdMs)
    (description, parameters) = (template.description, template.parameters)
    (type, priority, contentType) = (template.type, template.priority, template.contentType)
    body = withBody ? template.body : nil
  }

  var line: String {
    let about = description.map { "  " + Terminal.printable($0) } ?? ""
    return "\(name)  version \(version)  by \(author)  \(timeText(createdMs))\(about)\n"
  }

  var text: String {
    var text = line
    for parameter in parameters {
      let need = parameter.required && parameter.default == nil ? "required" : "optional"
      let about = parameter.description.map { "  " + Terminal.printable($0) } ?? ""
      text += "  \(parameter.name)  \(parameter.type.rawValue)  \(need)\(about)\n"
    }
    return text + "\n" + Terminal.printable(body ?? "") + "\n"
  }
}
