internal import EngramCore
internal import FoundationEssentials

/// One message as a file of a spool says it: plain text, since files are what tools without keys can read.
struct SpoolDocument: Equatable, Sendable {
  enum Direction: String, Codable, Sendable {
    case incoming = "in"
    case outgoing = "out"
  }

  var id: MessageID
  var direction = Direction.outgoing
  /// Whoever wrote it; nil means the owner of the home.
  var from: String?
  var to: [String]
  var type = "DIRECT"
  var priority: Priority
  var createdMs: UInt64
  var expiresMs: UInt64?
  var notBeforeMs: UInt64?
  /// 32 hexadecimal digits.
  var thread: String?
  /// 64 hexadecimal digits.
  var replyTo: String?
  var labels: [String: String] = [:]
  var contentType = "text/plain; charset=utf-8"
  var body: [UInt8]
  /// Written by us only: what became of the message, and its envelope.
  var state: String?
  var envelope: String?
  /// What somebody says became of the message. Kept for whoever reads the file; only receipts that this home
  /// has verified count for anything, and those are not here.
  var receipts: [SpoolValue]?

  init(
    id: MessageID, to: [String], priority: Priority, createdMs: UInt64, body: [UInt8]
  ) {
    (self.id, self.to, self.priority, self.createdMs, self.body) = (id, to, priority, createdMs, body)
  }

  /// - Throws: `SpoolProblem` naming the first key that is wrong.
  init(parsing bytes: [UInt8], name: SpoolName) throws(SpoolProblem) {
    guard String(validating: bytes, as: UTF8.self) != nil else { throw .notUTF8 }
    // The decoder would take it for UTF-16, and we look at bytes.
    guard !bytes.contains(0) else { throw .notJSON }
    let form: SpoolForm
    do { form = try JSONDecoder().decode(SpoolForm.self, from: Data(bytes)) } catch {
      throw SpoolProblem(decoding: error)
    }
    if let key = repeatedKey(bytes) { throw .repeatedKey(key) }
    if let id = form.id, SpoolName.messageID(id) != name.id { throw .contradiction("id") }
    if let priority = form.priority?.priority, priority != name.priority { throw .contradiction("priority") }
    guard !form.to.addresses.isEmpty else { throw .badValue("to") }
    self.init(
      id: name.id, to: form.to.addresses, priority: name.priority,
      createdMs: form.created?.ms ?? name.timestampMs, body: try form.bytes())
    direction = form.direction ?? .outgoing
    from = form.from
    type = form.type ?? type
    (expiresMs, notBeforeMs) = (form.expires?.ms, form.notBefore?.ms)
    if let ttl = form.ttlSeconds, expiresMs == nil {
      let (ms, overflow) = ttl.multipliedReportingOverflow(by: 1_000)
      guard !overflow, ms < UInt64.max / 2 else { throw .badValue("ttl_seconds") }
      expiresMs = createdMs + ms
    }
    (thread, replyTo) = (form.thread?.filter { $0 != "-" }, form.replyTo)
    labels = form.labels ?? [:]
    contentType = form.contentType ?? (form.bodyBase64 == nil ? contentType : "application/octet-stream")
    (state, envelope, receipts) = (form.state, form.envelope, form.receipts)
  }

  var name: SpoolName { SpoolName(priority: priority, timestampMs: createdMs, id: id) }

  /// Readable JSON: a text body as text, anything else in base64.
  func encoded() -> [UInt8] {
    let text = isText ? String(validating: body, as: UTF8.self) : nil
    let form = SpoolForm(
      id: SpoolName.uuid(id), direction: direction, from: from, to: SpoolForm.Addresses(addresses: to),
      type: type, priority: SpoolForm.PriorityValue(priority: priority),
      created: SpoolForm.Time(ms: createdMs), expires: expiresMs.map(SpoolForm.Time.init),
      ttlSeconds: nil, notBefore: notBeforeMs.map(SpoolForm.Time.init), thread: thread, replyTo: replyTo,
      labels: labels.isEmpty ? nil : labels, contentType: contentType, body: text,
      bodyBase64: text == nil ? Data(body).base64EncodedString() : nil, state: state, envelope: envelope,
      receipts: receipts)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    // Strings and numbers only: nothing in the form can fail to encode.
    guard let data = try? encoder.encode(form) else { return [] }
    return Array(data) + [UInt8(ascii: "\n")]
  }

  private var isText: Bool {
    contentType.hasPrefix("text/") || contentType.hasPrefix("application/json")
  }
}

/// The JSON of a spool file.
struct SpoolForm: Codable {
  /// One address, or a list of them.
  struct Addresses: Codable {
    let addresses: [String]
    init(addresses: [String]) { self.addresses = addresses }
    init(from decoder: any Decoder) throws {
      let single = try decoder.singleValueContainer()
      addresses = try (try? [single.decode(String.self)]) ?? single.decode([String].self)
    }
    func encode(to encoder: any Encoder) throws {
      var single = encoder.singleValueContainer()
      try single.encode(addresses)
    }
  }

  /// 1 to 5, or a name.
  struct PriorityValue: Codable {
    let priority: Priority
    init(priority: Priority) { self.priority = priority }
    init(from decoder: any Decoder) throws {
      let single = try decoder.singleValueContainer()
      let found =
        if let number = try? single.decode(UInt8.self) {
          Priority(rawValue: number)
        } else {
          Priority(name: try single.decode(String.self))
        }
      guard let found else {
        throw DecodingError.dataCorruptedError(in: single, debugDescription: "priority")
      }
      priority = found
    }
    func encode(to encoder: any Encoder) throws {
      var single = encoder.singleValueContainer()
      try single.encode(priority.rawValue)
    }
  }

  /// RFC 3339 in UTC, or a number: milliseconds or seconds since 1970.
  struct Time: Codable {
    let ms: UInt64
    init(ms: UInt64) { self.ms = ms }
    init(from decoder: any Decoder) throws {
      let single = try decoder.singleValueContainer()
      let found =
        if let number = try? single.decode(UInt64.self) {
          SpoolName.milliseconds("\(number)")
        } else {
          Timestamp.milliseconds(iso: try single.decode(String.self))
        }
      guard let found else { throw DecodingError.dataCorruptedError(in: single, debugDescription: "time") }
      ms = found
    }
    func encode(to encoder: any Encoder) throws {
      var single = encoder.singleValueContainer()
      try single.encode(Timestamp.text(ms))
    }
  }

  enum CodingKeys: String, CodingKey, CaseIterable {
    case id, direction, from, to, type, priority, created, expires, thread, labels, body, state, envelope,
      receipts
    case ttlSeconds = "ttl_seconds"
    case notBefore = "not_before"
    case replyTo = "reply_to"
    case contentType = "content_type"
    case bodyBase64 = "body_base64"
  }

  var id: String?
  var direction: SpoolDocument.Direction?
  var from: String?
  var to: Addresses
  var type: String?
  var priority: PriorityValue?
  var created: Time?
  var expires: Time?
  var ttlSeconds: UInt64?
  var notBefore: Time?
  var thread: String?
  var replyTo: String?
  var labels: [String: String]?
  var contentType: String?
  var body: String?
  var bodyBase64: String?
  var state: String?
  var envelope: String?
  var receipts: [SpoolValue]?

  func bytes() throws(SpoolProblem) -> [UInt8] {
    switch (body, bodyBase64) {
    case (let text?, nil): return Array(text.utf8)
    case (nil, let text?):
      guard let data = Data(base64Encoded: text) else { throw .badValue("body_base64") }
      return Array(data)
    case (nil, nil): throw .badValue("body")
    case (_?, _?): throw .badValue("body_base64")
    }
  }
}

extension SpoolForm {
  init(from decoder: any Decoder) throws {
    if let stranger = try decoder.unknownKey(beyond: CodingKeys.self) {
      throw SpoolProblem.unknownKey(stranger)
    }
    let form = try decoder.container(keyedBy: CodingKeys.self)
    id = try form.decodeIfPresent(String.self, forKey: .id)
    direction = try form.decodeIfPresent(SpoolDocument.Direction.self, forKey: .direction)
    from = try form.decodeIfPresent(String.self, forKey: .from)
    to = try form.decode(Addresses.self, forKey: .to)
    type = try form.decodeIfPresent(String.self, forKey: .type)
    priority = try form.decodeIfPresent(PriorityValue.self, forKey: .priority)
    created = try form.decodeIfPresent(Time.self, forKey: .created)
    expires = try form.decodeIfPresent(Time.self, forKey: .expires)
    ttlSeconds = try form.decodeIfPresent(UInt64.self, forKey: .ttlSeconds)
    notBefore = try form.decodeIfPresent(Time.self, forKey: .notBefore)
    thread = try form.decodeIfPresent(String.self, forKey: .thread)
    replyTo = try form.decodeIfPresent(String.self, forKey: .replyTo)
    labels = try form.decodeIfPresent([String: String].self, forKey: .labels)
    contentType = try form.decodeIfPresent(String.self, forKey: .contentType)
    body = try form.decodeIfPresent(String.self, forKey: .body)
    bodyBase64 = try form.decodeIfPresent(String.self, forKey: .bodyBase64)
    state = try form.decodeIfPresent(String.self, forKey: .state)
    envelope = try form.decodeIfPresent(String.self, forKey: .envelope)
    receipts = try form.decodeIfPresent([SpoolValue].self, forKey: .receipts)
  }
}

extension SpoolProblem {
  fileprivate init(decoding error: any Error) {
    switch error {
    case let problem as SpoolProblem: self = problem
    case DecodingError.keyNotFound(let key, _): self = .badValue(key.stringValue)
    case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context),
      DecodingError.dataCorrupted(let context):
      self = context.codingPath.first.map { .badValue($0.stringValue) } ?? .notJSON
    default: self = .notJSON
    }
  }
}
