internal import EngramClientStore
internal import EngramCore

/// One file of a spool that was looked at.
public struct SpoolFileReport: Sendable {
  public enum Outcome: Sendable, Equatable {
    /// Sealed, kept here and, unless it waits for keys or for the node, accepted by the home node.
    case sent
    /// It was sent from this home before, under this very id.
    case alreadySent
    /// Left where it is.
    case left(SpoolProblem)
  }
  /// The file's name; of one that is not UTF-8, nothing.
  public let file: String?
  public let outcome: Outcome
}

/// What an import did.
public struct SpoolImportSummary: Sendable {
  public internal(set) var sent = 0
  public internal(set) var alreadySent = 0
  public internal(set) var left = 0
  public internal(set) var bytes = 0
}

extension EngramClient {
  /// Sends what waits in a spool's `pending` folder, urgent first, then old first. Bodies are sealed on the
  /// way in. A file that cannot be taken is reported and stays where it is; the others are not affected.
  ///
  /// The UUID in a file's name is the message id, so a file that is met twice is sent once, whatever
  /// interrupted the first time.
  /// - Parameters:
  ///   - path: the folder that holds `pending`.
  ///   - keepsFiles: leaves the files of sent messages in `pending` instead of moving them to `imported`.
  ///   - isRehearsal: only says what would happen.
  ///   - report: called for every file.
  /// - Throws: `EngramError` when the folder cannot be used or the local store fails.
  public func importSpool(
    _ path: String, keepsFiles: Bool = false, isRehearsal: Bool = false,
    report: @escaping @Sendable (SpoolFileReport) -> Void = { _ in }
  ) async throws -> SpoolImportSummary {
    let folder = try SpoolFolder(path, creates: false)
    let run = SpoolImport(client: self, folder: folder, keepsFiles: keepsFiles, isRehearsal: isRehearsal)
    return try await run.run(report)
  }
}

/// One pass over `pending`.
struct SpoolImport: Sendable {
  let client: EngramClient
  let folder: SpoolFolder
  let keepsFiles: Bool
  let isRehearsal: Bool
  private let state = SpoolState.pending.rawValue

  init(client: EngramClient, folder: SpoolFolder, keepsFiles: Bool, isRehearsal: Bool = false) {
    (self.client, self.folder) = (client, folder)
    (self.keepsFiles, self.isRehearsal) = (keepsFiles, isRehearsal)
  }

  private struct Candidate {
    let file: String
    let document: SpoolDocument
  }

  func run(_ report: @Sendable (SpoolFileReport) -> Void) async throws -> SpoolImportSummary {
    var summary = SpoolImportSummary()
    func note(_ file: String?, _ outcome: SpoolFileReport.Outcome) {
      switch outcome {
      case .sent: summary.sent += 1
      case .alreadySent: summary.alreadySent += 1
      case .left: summary.left += 1
      }
      report(SpoolFileReport(file: file, outcome: outcome))
    }
    var batch: [Candidate] = []
    var batchBytes = 0
    let files: [(file: String, name: SpoolName)]
    do throws(SpoolProblem) { files = try sorted { note($0, .left($1)) } } catch {
      throw EngramError(.badInput, name: error.name, error.message)
    }
    for (file, name) in files {
      try Task.checkCancellation()
      do throws(SpoolProblem) {
        let document = try candidate(file, name)
        batch.append(Candidate(file: file, document: document))
        batchBytes += document.body.count
        summary.bytes += document.body.count
      } catch { note(file, .left(error)) }
      if batch.count >= SpoolLimits.batchMax || batchBytes >= SpoolLimits.batchBytesMax {
        for (file, outcome) in try await send(batch) { note(file, outcome) }
        (batch, batchBytes) = ([], 0)
      }
    }
    for (file, outcome) in try await send(batch) { note(file, outcome) }
    return summary
  }

  /// Usable names in the order of work; the others are handed to `left`.
  private func sorted(
    _ left: (String?, SpoolProblem) -> Void
  ) throws(SpoolProblem) -> [(file: String, name: SpoolName)] {
    var files: [(file: String, name: SpoolName)] = []
    for file in try folder.names(in: state) {
      guard let file else {
        left(nil, .notUTF8)
        continue
      }
      do throws(SpoolProblem) { files.append((file, try SpoolName(parsing: file))) } catch {
        left(file, error)
      }
    }
    return files.sorted { $0.name < $1.name }
  }

  private func candidate(_ file: String, _ name: SpoolName) throws(SpoolProblem) -> SpoolDocument {
    let document = try SpoolDocument(parsing: try folder.read(file, in: state), name: name)
    let own = client.whoami().address
    guard document.direction == .outgoing, document.from == nil || document.from == own else {
      throw .badValue("from")
    }
    return document
  }

  private func send(_ batch: [Candidate]) async throws -> [(String, SpoolFileReport.Outcome)] {
    guard !batch.isEmpty else { return [] }
    let known = try await client.knownMessages(batch.map(\.document.id))
    let fresh = batch.filter { known[$0.document.id] == nil }
    var outcomes: [String: SpoolFileReport.Outcome] = [:]
    for entry in batch {
      guard let known = known[entry.document.id] else { continue }
      outcomes[entry.file] = known.refusal.map { .left(.refused($0)) } ?? .alreadySent
    }
    var messages: [(file: String, message: OutgoingMessage)] = []
    for entry in fresh {
      do throws(EngramError) {
        messages.append((entry.file, try entry.document.outgoing(nowMs: client.core.nowMs())))
      } catch { outcomes[entry.file] = .left(.refused(error)) }
    }
    if isRehearsal {
      for (file, message) in messages {
        do {
          _ = try Draft(message, nowMs: client.core.nowMs())
          outcomes[file] = .sent
        } catch { outcomes[file] = .left(.refused(EngramError(error))) }
      }
    } else {
      let sent = try await client.sendBatch(messages.map(\.message))
      for ((file, _), result) in zip(messages, sent) {
        if case .refused(let error) = result.state {
          outcomes[file] = .left(.refused(error))
        } else {
          outcomes[file] = .sent
        }
      }
      if !keepsFiles { clear(outcomes) }
    }
    return batch.map { ($0.file, outcomes[$0.file] ?? .left(.unreadable(0))) }
  }

  /// What was sent leaves `pending`. A file that cannot be moved is met again and found to be sent already.
  private func clear(_ outcomes: [String: SpoolFileReport.Outcome]) {
    for (file, outcome) in outcomes.sorted(by: { $0.key < $1.key }) {
      if case .left = outcome { continue }
      try? folder.move(file, from: state, to: SpoolFolder.imported)
    }
  }
}

extension SpoolDocument {
  /// The message that the file asks for.
  func outgoing(nowMs: UInt64) throws(EngramError) -> OutgoingMessage {
    var options = SendOptions()
    options.messageID = id.description
    (options.type, options.priority) = (type, priority.name)
    (options.thread, options.replyTo, options.labels) = (thread, replyTo, labels)
    if let expiresMs {
      guard expiresMs > nowMs else { throw EngramError(.badInput, .expired) }
      // Whole seconds, so that a message never lives longer than its file says.
      options.ttlSeconds = max((expiresMs - nowMs) / 1_000, 1)
    }
    if let notBeforeMs, notBeforeMs > nowMs { options.notBeforeMs = notBeforeMs }
    return OutgoingMessage(to: to, body: body, contentType: contentType, options: options)
  }
}
