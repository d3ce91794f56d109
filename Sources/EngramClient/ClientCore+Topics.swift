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
/// 3. one envelope for each destination node, so that subscribers of one organisation are not shown to another;
///    several where a node has more devices than an envelope may have recipients
/// 4. the ordinary path: sealed, kept, transmitted, receipts verified
extension ClientCore {
  /// Steps 2 to 4.
  /// - Parameter draft: what to say; recipients and message id are set here.
  func publish(_ draft: Draft, to members: [Address]) async throws -> Publication {
    var publication = Publication()
    var parts: [NodeName: [Part]] = [:]
    for member in members where member != account.address {
      do {
        let devices = try await sealableDevices(of: member)
        Self.add(member, devices: devices.count, to: &parts[member.node, default: []])
      } catch {
        let error = EngramError(error)
        // Whoever cannot be asked about now waits in the queue, apart from those who can be written to.
        guard error.kind == .unreachable else {
          publication.unreached.append((member, error))
          continue
        }
        Self.add(member, devices: nil, to: &parts[member.node, default: []])
      }
    }
    for (_, group) in parts.sorted(by: { $0.key < $1.key }) {
      for part in group {
        guard let id = MessageID(randomBytes(16)) else { preconditionFailure("sixteen bytes are an id") }
        var copy = draft
        (copy.messageID, copy.recipients) = (id, part.members)
        publication.drafts.append(copy)
      }
    }
    publication.outcomes = try await submit(publication.drafts)
    return publication
  }

  /// The recipients of one envelope.
  private struct Part {
    var members: [Address] = []
    var devices = 0
    /// The devices of these are not known yet.
    var isWaiting = false
  }

  /// - Parameter devices: nil when they are not known; as many as there can be are then reckoned with.
  private static func add(_ member: Address, devices: Int?, to parts: inout [Part]) {
    let count = devices ?? Limits.devicesPerClientMax
    let isWaiting = devices == nil
    let index = parts.firstIndex {
      $0.isWaiting == isWaiting && $0.devices + count <= Limits.recipientsMax
    }
    if let index {
      parts[index].members.append(member)
      parts[index].devices += count
    } else {
      parts.append(Part(members: [member], devices: count, isWaiting: isWaiting))
    }
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
    _ = try await publish(draft, to: fresh.sorted())
  }
}
