internal import EngramCore
internal import FoundationEssentials

/// A message with holes: named, versioned, with typed parameters. Rendered on the client, before sealing, so
/// no node ever sees what the holes were filled with. The text is Mustache (https://mustache.github.io,
/// specification 1.4) without partials, inheritance, lambdas and changes of delimiters.
public struct MessageTemplate: Codable, Sendable, Equatable {
  public struct Parameter: Codable, Sendable, Equatable {
    public enum Kind: String, Codable, Sendable, CaseIterable {
      case string, integer, number, boolean, list
    }

    /// A letter, then letters, digits and `_`, at most 64.
    public var name: String
    public var type: Kind
    /// Without a value or a default, rendering is refused.
    public var required: Bool
    public var `default`: TemplateValue?
    public var description: String?

    public init(
      name: String, type: Kind, required: Bool = true, default value: TemplateValue? = nil,
      description: String? = nil
    ) {
      (self.name, self.type, self.required) = (name, type, required)
      (self.default, self.description) = (value, description)
    }

    enum CodingKeys: String, CodingKey, CaseIterable {
      case name, type, required, `default`, description
    }

    /// - Throws: `EngramError` named `template-invalid` for a key that no parameter has.
    public init(from decoder: any Decoder) throws {
      try refuseUnknownKeys(decoder, beyond: CodingKeys.self, in: "parameter")
      let form = try decoder.container(keyedBy: CodingKeys.self)
      name = try form.decode(String.self, forKey: .name)
      type = try form.decodeIfPresent(Kind.self, forKey: .type) ?? .string
      required = try form.decodeIfPresent(Bool.self, forKey: .required) ?? true
      self.default = try form.decodeIfPresent(TemplateValue.self, forKey: .default)
      description = try form.decodeIfPresent(String.self, forKey: .description)
    }
  }

  /// `[a-z0-9][a-z0-9._-]{0,62}`, as the name part of an address.
  public var name: String
  /// Given by the node, from 1; what a version says never changes. 0 before it was stored.
  public var version: Int
  public var description: String?
  public var parameters: [Parameter]
  /// Mustache.
  public var body: String
  /// MIME type of the rendered body.
  public var contentType: String
  /// `TASK_REQUEST` and the like; nil leaves it to the sender.
  public var type: String?
  /// `LOW` to `CRITICAL`; nil leaves it to the sender.
  public var priority: String?

  enum CodingKeys: String, CodingKey, CaseIterable {
    case name, version, description, parameters, body, type, priority
    case contentType = "content_type"
  }

  public init(
    name: String, version: Int = 0, description: String? = nil, parameters: [Parameter] = [], body: String,
    contentType: String = "text/plain; charset=utf-8", type: String? = nil, priority: String? = nil
  ) {
    (self.name, self.version, self.description, self.parameters) = (name, version, description, parameters)
    (self.body, self.contentType, self.type, self.priority) = (body, contentType, type, priority)
  }

  /// - Throws: `EngramError` named `template-invalid` for a key that no template has: what it says would be
  ///   dropped.
  public init(from decoder: any Decoder) throws {
    try refuseUnknownKeys(decoder, beyond: CodingKeys.self, in: "template")
    let form = try decoder.container(keyedBy: CodingKeys.self)
    name = try form.decode(String.self, forKey: .name)
    version = try form.decodeIfPresent(Int.self, forKey: .version) ?? 0
    description = try form.decodeIfPresent(String.self, forKey: .description)
    parameters = try form.decodeIfPresent([Parameter].self, forKey: .parameters) ?? []
    body = try form.decode(String.self, forKey: .body)
    contentType =
      try form.decodeIfPresent(String.self, forKey: .contentType) ?? "text/plain; charset=utf-8"
    type = try form.decodeIfPresent(String.self, forKey: .type)
    priority = try form.decodeIfPresent(String.self, forKey: .priority)
  }
}

extension MessageTemplate {
  /// Reads a document as people write it.
  /// - Throws: `EngramError` named `template-invalid`: not JSON, a key that is missing, not known, of another
  ///   type, or there twice.
  public init(json: [UInt8]) throws {
    // The decoder would take a text with zeros for UTF-16, and keys are looked for in bytes.
    guard !json.contains(0), String(validating: json, as: UTF8.self) != nil else { throw Self.notOne }
    do { self = try JSONDecoder().decode(MessageTemplate.self, from: Data(json)) } catch {
      throw error as? EngramError ?? Self.notOne
    }
    if let key = repeatedKey(json) {
      throw EngramError(
        .badInput, .templateInvalid, saying: "the document has the key '\(shownKey(key))' twice", hint: nil)
    }
  }

  private static var notOne: EngramError {
    EngramError(
      .badInput, .templateInvalid, saying: "this is not a template",
      hint: "a JSON object with at least \"name\" and \"body\"; docs/templates.md lists its keys")
  }
}

private func refuseUnknownKeys<Key: CodingKey & CaseIterable>(
  _ decoder: any Decoder, beyond known: Key.Type, in what: String
) throws {
  guard let key = try decoder.unknownKey(beyond: known) else { return }
  throw EngramError(
    .badInput, .templateInvalid, saying: "there is an unknown key in the \(what): '\(shownKey(key))'",
    hint: "it has: \(known.allCases.map(\.stringValue).joined(separator: ", "))")
}

/// What fills a hole.
public enum TemplateValue: Sendable, Equatable, Codable {
  case string(String)
  case integer(Int64)
  case number(Double)
  case boolean(Bool)
  case list([String])

  public init(from decoder: any Decoder) throws {
    let single = try decoder.singleValueContainer()
    // A JSON boolean must be asked for first: some decoders also read it as a number.
    if let value = try? single.decode(Bool.self) {
      self = .boolean(value)
    } else if let value = try? single.decode(Int64.self) {
      self = .integer(value)
    } else if let value = try? single.decode(Double.self) {
      self = .number(value)
    } else if let value = try? single.decode([String].self) {
      self = .list(value)
    } else {
      self = .string(try single.decode(String.self))
    }
  }

  public func encode(to encoder: any Encoder) throws {
    var single = encoder.singleValueContainer()
    switch self {
    case .string(let value): try single.encode(value)
    case .integer(let value): try single.encode(value)
    case .number(let value): try single.encode(value)
    case .boolean(let value): try single.encode(value)
    case .list(let value): try single.encode(value)
    }
  }

  /// The value as a parameter of this type, if it is one. An integer is also a number.
  func coerced(to kind: MessageTemplate.Parameter.Kind) -> TemplateValue? {
    switch (kind, self) {
    case (.string, .string), (.integer, .integer), (.number, .number), (.boolean, .boolean), (.list, .list):
      self
    case (.number, .integer(let value)): .number(Double(value))
    default: nil
    }
  }

  /// Text from a command line, read as the parameter's type.
  /// - Returns: nil when it is not a value of that type. Lists are separated by commas; none of their members
  ///   can hold one.
  public init?(text: String, as kind: MessageTemplate.Parameter.Kind) {
    switch kind {
    case .string: self = .string(text)
    case .integer:
      guard let value = Int64(text) else { return nil }
      self = .integer(value)
    case .number:
      guard let value = Double(text), value.isFinite else { return nil }
      self = .number(value)
    case .boolean:
      guard let value = ["true": true, "yes": true, "false": false, "no": false][text] else { return nil }
      self = .boolean(value)
    case .list: self = .list(text.isEmpty ? [] : text.split(separator: ",").map(String.init))
    }
  }
}
