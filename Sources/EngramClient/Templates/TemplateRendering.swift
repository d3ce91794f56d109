internal import EngramCore
internal import Mustache

/// Bounds of templates.
enum TemplateLimits {
  /// A template is something people read; more is a document, and travels as an attachment.
  static let bodyBytesMax = 256 << 10
  static let parametersMax = 64
  static let parameterNameBytesMax = 64
  static let descriptionBytesMax = 1_000
}

extension MessageTemplate {
  /// Refuses a template that could not be rendered, or that says something about itself that is not so.
  /// - Throws: `EngramError` with the name `template-invalid`.
  public func validate() throws {
    guard isLocalName(name) else {
      throw invalid("the name of a template is lower-case letters, digits, '.', '_' and '-'")
    }
    guard body.utf8.count <= TemplateLimits.bodyBytesMax else {
      throw invalid("the text of a template is at most \(TemplateLimits.bodyBytesMax) bytes")
    }
    guard (description?.utf8.count ?? 0) <= TemplateLimits.descriptionBytesMax else {
      throw invalid("a description is at most \(TemplateLimits.descriptionBytesMax) bytes")
    }
    guard parameters.count <= TemplateLimits.parametersMax else {
      throw invalid("a template has at most \(TemplateLimits.parametersMax) parameters")
    }
    guard contentType.utf8.count <= Limits.contentTypeBytesMax, contentType.contains("/") else {
      throw invalid("content_type is a MIME type")
    }
    if let type, MessageType(name: type) == nil { throw invalid("type is not one of the message types") }
    if let priority, Priority(name: priority) == nil { throw invalid("priority is LOW to CRITICAL") }
    try checkParameters()
    _ = try text()
  }

  private func checkParameters() throws {
    var seen: Set<String> = []
    for parameter in parameters {
      guard isParameterName(parameter.name) else {
        throw invalid("the name of a parameter is a letter, then letters, digits and '_'")
      }
      guard seen.insert(parameter.name).inserted else {
        throw invalid("parameter '\(parameter.name)' is declared twice")
      }
      if let value = parameter.default, value.coerced(to: parameter.type) == nil {
        throw invalid("the default of '\(parameter.name)' is no \(parameter.type.rawValue)")
      }
    }
  }

  private func text() throws -> TemplateText {
    do throws(TemplateText.Problem) {
      return try TemplateText(body, parameters: Set(parameters.map(\.name)))
    } catch {
      switch error {
      case .unbalanced: throw invalid("a tag or a section of the text does not end")
      case .notSupported:
        throw invalid("partials, parents, pragmas and changes of delimiters cannot be used")
      case .undeclared(let name): throw invalid("the text uses '\(name)', which is no parameter")
      }
    }
  }

  /// Fills the holes.
  /// - Parameter values: one per required parameter, and none that is not declared.
  /// - Returns: the body to seal.
  /// - Throws: `EngramError` with the name `template-invalid`; its message names the parameter.
  public func rendered(_ values: [String: TemplateValue]) throws -> String {
    try validate()
    let declared = Set(parameters.map(\.name))
    if let extra = values.keys.filter({ !declared.contains($0) }).min() {
      throw invalid(
        "template '\(name)' has no parameter '\(extra)'",
        hint: "it has: \(parameters.map(\.name).joined(separator: ", "))")
    }
    var context: [String: Any] = [:]
    for parameter in parameters {
      guard let given = values[parameter.name] ?? parameter.default else {
        guard !parameter.required else {
          throw invalid(
            "parameter '\(parameter.name)' (\(parameter.type.rawValue)) has no value",
            hint: "give it with --param \(parameter.name)=VALUE")
        }
        continue
      }
      guard let value = given.coerced(to: parameter.type) else {
        throw invalid("the value of '\(parameter.name)' is no \(parameter.type.rawValue)")
      }
      context[parameter.name] = value.mustache
    }
    do {
      let result = try MustacheTemplate(string: try text().mustache).render(context)
      guard result.utf8.count <= Limits.bodyBytesMax else { throw EngramError(.badInput, .tooLarge) }
      return result
    } catch let error as EngramError {
      throw error
    } catch {
      throw invalid("the text is not Mustache")
    }
  }

  /// Reads `name=value` arguments as the types that the template declares.
  /// - Throws: `EngramError` with the name `template-invalid`.
  public func values(fromArguments arguments: [String]) throws -> [String: TemplateValue] {
    var values: [String: TemplateValue] = [:]
    for argument in arguments {
      let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard parts.count == 2 else { throw invalid("a parameter is given as name=value") }
      let name = String(parts[0])
      guard values[name] == nil else { throw invalid("parameter '\(name)' is given twice") }
      let kind = parameters.first { $0.name == name }?.type ?? .string
      guard let value = TemplateValue(text: String(parts[1]), as: kind) else {
        throw invalid("the value of '\(name)' is no \(kind.rawValue)")
      }
      values[name] = value
    }
    return values
  }

  private func invalid(_ message: String, hint: String? = nil) -> EngramError {
    EngramError(.badInput, .templateInvalid, saying: message, hint: hint)
  }
}

extension TemplateValue {
  fileprivate var mustache: Any {
    switch self {
    case .string(let value): value
    case .integer(let value): value
    case .number(let value): value
    case .boolean(let value): value
    case .list(let value): value
    }
  }
}

private func isParameterName(_ name: String) -> Bool {
  guard name.utf8.count <= TemplateLimits.parameterNameBytesMax, let first = name.utf8.first else {
    return false
  }
  func isLetter(_ byte: UInt8) -> Bool { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20) }
  return isLetter(first) && name.utf8.allSatisfy { isLetter($0) || isDigit($0) || $0 == UInt8(ascii: "_") }
}

private func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }
