import EngramCore
import EngramNode
import FoundationEssentials
import HTTPTypes
import Hummingbird
import HummingbirdCore

/// Templates of the organisation. Every client of this node may read them; a name belongs to whoever used it
/// first.
func addTemplateRoutes(to api: RouterGroup<APIContext>, _ edge: Edge) {
  let templates = api.group("templates")
  templates.get { request, _ in
    _ = try edge.session(request.headers)
    let query = try TemplateQuery(request.uri, allowing: ["after", "max"])
    let rows = try value(
      await edge.read { node throws(ErrorCode) in
        try node.templates(after: query.after, maxCount: query.maxCount + 1)
      })
    return response(.ok, .json, jsonBytes(TemplatesDocument(rows, maxCount: query.maxCount)))
  }
  templates.get(":name") { request, context in
    _ = try edge.session(request.headers)
    let query = try TemplateQuery(request.uri, allowing: ["version"])
    guard let name = context.parameters.get("name") else { throw Problem(.notFound) }
    let row = try value(
      await edge.read { node throws(ErrorCode) in try node.template(name, version: query.version) })
    return response(.ok, .json, jsonBytes(TemplateDocument(row)))
  }
  templates.put(":name") { request, context in
    let (session, _) = try edge.session(request.headers)
    guard let name = context.parameters.get("name") else { throw Problem(.notFound) }
    try MediaType.json.require(in: request.headers)
    return try await edge.body(of: request, max: TemplateBounds.documentBytesMax) { bytes in
      guard let shape = try? JSONDecoder().decode(TemplateShape.self, from: Data(bytes)), shape.name == name
      else { throw Problem(.templateInvalid) }
      let result = await withCheckedContinuation { continuation in
        edge.node.putTemplate(name, document: bytes, session) { continuation.resume(returning: $0) }
      }
      return response(.created, .json, jsonBytes(TemplateDocument(try value(result))))
    }
  }
}

/// What every template must say; the rest is for the clients, who check it before they render.
private struct TemplateShape: Decodable {
  let name: String
  let body: String
}

private struct TemplateQuery {
  var after = ""
  var maxCount = TemplateBounds.perPageMax
  var version: Int?

  init(_ uri: URI, allowing names: Set<Substring>) throws(Problem) {
    for (name, text) in uri.queryParameters {
      guard names.contains(name) else { throw Problem(.malformed) }
      switch name {
      case "after": after = String(text)
      case "max": maxCount = try queryCount(text, max: TemplateBounds.perPageMax)
      default: version = try queryCount(text, max: .max)
      }
    }
  }
}

/// `GET /api/v1/templates/{name}`: the document as it was put, as text, with what the node knows about it.
struct TemplateDocument: Encodable {
  var name: String
  var version: Int
  var author: String
  var createdMs: UInt64
  var document: String

  init(_ row: StoredTemplate) {
    (name, version, author, createdMs) = (row.name, row.version, row.author.text, row.createdMs)
    document = String(decoding: row.document, as: UTF8.self)
  }

  private enum CodingKeys: String, CodingKey {
    case name, version, author, document
    case createdMs = "created_ms"
  }
}

/// `GET /api/v1/templates`: the newest version of each; the next page begins after the last name.
struct TemplatesDocument: Encodable {
  var templates: [TemplateDocument]
  var hasMore: Bool

  /// - Parameter rows: one more than the page holds, if there are more.
  init(_ rows: [StoredTemplate], maxCount: Int) {
    (templates, hasMore) = (rows.prefix(maxCount).map(TemplateDocument.init), rows.count > maxCount)
  }

  private enum CodingKeys: String, CodingKey {
    case templates
    case hasMore = "more"
  }
}
