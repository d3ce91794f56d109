internal import EngramClientStore
internal import EngramCore
internal import EngramCrypto
internal import Synchronization

/// What became of one message for many.
struct Publication: Sendable {
  var drafts: [Draft] = []
  var outcomes: [MessageID: SubmitOutcome] = [:]
  /// Those it could not be sealed for, and will not be.
  var unreached: [(address: Address, error: EngramError)] = []
}

/// A message for many, from members to envelopes:
///
/// 1. the members, asked of the topic's home node each time
/// 2. their devices, from judged directory answers, as for any message
/// 3. one envelope for each destination node, so that subscribers of one organisation are not shown to
///    another; several where a node has more devices than an envelope may have recipients
/// 4. the ordinary path: sealed, kept, transmitted, receipts verified
extension ClientCore {
  /// Steps 2 to 4.
  /// - Parameter draft: what to say; recipients and message ids are set here.
  func publish(_ draft: Draft, to members: [Address]) async throws -> Publication {
    var publication = Publication()
    // Whoever cannot be asked about now waits in the queue, apart from those who can be written to.
    var blocked = await sealQueued()
    var known: [Address: [SealableDevice]] = [:]
    for member in members where member != account.address && blocked[member] == nil {
      do { known[member] = try await sealableDevices(of: member) } catch {
        let error = EngramError(error)
        if error.kind == .unreachable {
          blocked[member] = error
        } else {
          publication.unreached.append((member, error))
        }
      }
    }
    for group in [members.filter { known[$0] != nil }, members.filter { blocked[$0] != nil }] {
      let byNode = Dictionary(grouping: group, by: \.node)
      for (_, part) in byNode.sorted(by: { $0.key < $1.key }) {
        for recipients in Self.parts(of: part.map { ($0, known[$0]?.count) }) {
          guard let id = MessageID(randomBytes(16)) else { preconditionFailure("sixteen bytes are an id") }
          var copy = draft
          (copy.messageID, copy.recipients) = (id, recipients)
          publication.drafts.append(copy)
        }
      }
    }
    publication.outcomes = try await submit(publication.drafts, behind: blocked, known: known)
    return publication
  }

  /// Step 3: recipients of one node, cut where an envelope would have too many, in their order.
  /// - Parameter group: with the number of devices; nil when they are not known, and as many as there can be
  ///   are reckoned with.
  static func parts(of group: [(Address, devices: Int?)]) -> [[Address]] {
    var parts: [[Address]] = []
    var room = 0
    for (address, devices) in group {
      let count = devices ?? Limits.devicesPerClientMax
      if count > room {
        parts.append([])
        room = Limits.recipientsMax
      }
      parts[parts.count - 1].append(address)
      room -= count
    }
    return parts
  }

  // MARK: - Last values

  /// Sends the last value of each topic to members who have not had it. What fails stays due.
  /// - Parameter due: only topics of which a change was heard.
  func serveRetained(due: Bool) async {
    guard !isServing.exchange(true, ordering: .acquiringAndReleasing) else { return }
    defer { isServing.store(false, ordering: .releasing) }
    for topic in (try? await read({ try $0.retainedTopics(due: due) })) ?? [] {
      try? await serve(topic)
    }
  }

  private func serve(_ topic: TopicAddress) async throws {
    let members = Set(try await api.members(of: topic)).subtracting([account.address])
    let (value, served) = try await read { (try $0.retained(topic), try $0.served(topic)) }
    guard var draft = value else { return }
    let fresh = members.subtracting(served)
    // Before the publication: a crash in between costs a member the old value, never sends it twice.
    try await commit { try $0.setServed(topic, members) }
    guard !fresh.isEmpty else { return }
    let now = nowMs()
    let lifetime = draft.expiresMs - min(draft.createdMs, draft.expiresMs)
    (draft.createdMs, draft.expiresMs, draft.notBeforeMs) = (now, now + lifetime, 0)
    let publication = try await publish(draft, to: fresh.sorted())
    try await leave(publication.unreached.map(\.address), unservedAt: topic)
  }

  /// Members that the value could not be sealed for are tried again the next time.
  func leave(_ unreached: [Address], unservedAt topic: TopicAddress) async throws {
    guard !unreached.isEmpty else { return }
    try await commit { try $0.setServed(topic, try $0.served(topic).subtracting(unreached)) }
  }
}
