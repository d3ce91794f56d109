internal import EngramCore
internal import FoundationEssentials

/// A template as the node keeps it.
public struct SharedTemplate: Sendable {
  public let template: MessageTemplate
  public let author: String
  public let createdMs: UInt64
}

extension EngramClient {
  /// Puts a template, or the next version of one of ours, into the organisation's directory.
  /// - Returns: with the version that it got. The same text again makes no second version.
  /// - Throws: `EngramError`: `template-invalid`, or `not-permitted` where the name is somebody else's.
  public func putTemplate(_ template: MessageTemplate) async throws -> SharedTemplate {
    try await publicly {
      try template.validate()
      var plain = template
      plain.version = 0
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      let document = Array(try encoder.encode(plain))
      return try SharedTemplate(try await core.api.putTemplate(template.name, document))
    }
  }

  /// - Parameter version: nil for the newest.
  /// - Throws: `EngramError`: `not-found`.
  public func template(_ name: String, version: Int? = nil) async throws -> SharedTemplate {
    try await publicly { try SharedTemplate(try await core.api.template(name, version: version)) }
  }

  /// The newest version of every template, by name.
  public func templates() async throws -> [SharedTemplate] {
    try await publicly { try await core.api.templates().map { try SharedTemplate($0) } }
  }

  /// Renders a template here and sends the result; type and priority of the template hold unless the options
  /// say otherwise.
  public func send(
    to recipients: [String], template: MessageTemplate, values: [String: TemplateValue],
    options: SendOptions? = nil
  ) async throws -> SentMessage {
    let body = try template.rendered(values)
    var filled = options ?? SendOptions()
    if options == nil {
      filled.type = template.type ?? filled.type
      filled.priority = template.priority ?? filled.priority
    }
    return try await send(
      to: recipients, body: Array(body.utf8), contentType: template.contentType, options: filled)
  }
}

extension SharedTemplate {
  fileprivate init(_ form: TemplateForm) throws {
    var template: MessageTemplate
    do { template = try MessageTemplate(json: Array(form.document.utf8)) } catch {
      throw EngramError(
        .badInput, .templateInvalid, saying: "the stored template is not one that this version reads",
        hint: nil)
    }
    template.version = form.version
    // The node does not look inside; whoever renders it must not trust what others stored.
    guard template.name == form.name else { throw EngramError(.untrusted, .malformed) }
    try template.validate()
    self.init(template: template, author: form.author, createdMs: form.createdMs)
  }
}

/// The node's answer about one version.
struct TemplateForm: Decodable, Sendable {
  let name: String
  let version: Int
  let author: String
  let createdMs: UInt64
  let document: String

  private enum CodingKeys: String, CodingKey {
    case name, version, author, document
    case createdMs = "created_ms"
  }
}

extension NodeAPI {
  func putTemplate(_ name: String, _ document: [UInt8]) async throws -> TemplateForm {
    let request = NodeRequest(
      "PUT", "/api/v1/templates/\(name)", contentType: "application/json", body: document)
    return try await json(request, expecting: 201)
  }

  func template(_ name: String, version: Int?) async throws -> TemplateForm {
    guard isLocalName(name) else { throw EngramError(.refused, .notFound) }
    let query = version.map { "?version=\($0)" } ?? ""
    return try await json(NodeRequest("GET", "/api/v1/templates/\(name)\(query)"))
  }

  func templates() async throws -> [TemplateForm] {
    struct Page: Decodable {
      let templates: [TemplateForm]
      let more: Bool
    }
    return try await everyPage("/api/v1/templates", by: \.name, max: ClientLimits.templatesMax) {
      (page: Page) in (page.templates, page.more)
    }
  }
}
