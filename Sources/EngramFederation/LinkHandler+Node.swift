import EngramCore
import EngramCrypto
import EngramNode
import Logging
import NIOCore
import NIOPosix

/// Actions that need the node. Completions arrive on its commit thread or the thread pool and hop back as
/// events.
extension LinkHandler {
  private var node: Node { environment.node }

  // MARK: - Reads, on the thread pool

  /// Runs a blocking read and turns its result into an event.
  private func read<Value: Sendable>(
    _ body: @escaping @Sendable () throws(ErrorCode) -> Value,
    _ event: @escaping @Sendable (Result<Value, ErrorCode>) -> LinkEvent
  ) {
    guard let port else { return }
    environment.pool.submit { state in
      guard case .active = state else { return port.post(event(.failure(.shuttingDown))) }
      do throws(ErrorCode) { port.post(event(.success(try body()))) } catch {
        port.post(event(.failure(error)))
      }
    }
  }

  func loadNumbers() {
    let bound = port.map { NIOLoopBound(self, eventLoop: $0.channel.eventLoop) }
    guard let port, let bound else { return }
    environment.pool.submit { [node, peer] state in
      let result: Result<LinkState, ErrorCode>
      if case .active = state {
        do throws(ErrorCode) { result = .success(try node.linkState(peer.name)) } catch {
          result = .failure(error)
        }
      } else {
        result = .failure(.shuttingDown)
      }
      port.channel.eventLoop.execute { bound.value.numbersLoaded(result) }
    }
  }

  private func numbersLoaded(_ result: Result<LinkState, ErrorCode>) {
    switch result {
    case .failure(let code): handle(.failed(code))
    case .success(let state):
      mailboxes = (state.envelopesMailbox, state.receiptsMailbox)
      handle(
        .numbersLoaded(
          LinkNumbers(
            outEpoch: state.outEpoch, inEpoch: state.inEpoch, inThrough: state.inThrough,
            ackedThrough: state.ackedThrough, highestAssigned: state.highestAssigned)))
    }
  }

  /// From memory when the rows were only just committed and their certificates are over there already.
  func readEnvelopes(after: OutboxCursor, maxCount: Int, maxBytes: Int, sent: [Kid: UInt64]) {
    if let read = node.freshOutbound(peer.name, after: after, maxCount: maxCount, maxBytes: maxBytes),
      read.rows.allSatisfy({ row in sent[row.senderKid].map { $0 >= row.senderListVersion } ?? false })
    {
      return handle(
        .envelopesRead(read.rows.map { OutboundRow($0) }, through: read.cursor, certificates: []))
    }
    read { [node, peer] () throws(ErrorCode) in
      let read = try node.outbound(peer.name, after: after, maxCount: maxCount, maxBytes: maxBytes)
      var known = sent
      var certificates: [SenderCertificate] = []
      for row in read.rows where known[row.senderKid].map({ $0 < row.senderListVersion }) ?? true {
        known[row.senderKid] = row.senderListVersion
        if let item = try node.certificate(row.senderKid) {
          certificates.append(
            SenderCertificate(kid: row.senderKid, listVersion: row.senderListVersion, item: item))
        }
      }
      return (read, certificates)
    } _: { [log = environment.log] result in
      switch result {
      case .failure(let code):
        log.error("reading the outbox failed", metadata: ["code": "\(code.name)"])
        return .envelopesReadFailed
      case .success((let read, let certificates)):
        return .envelopesRead(
          read.rows.map { OutboundRow($0) }, through: read.cursor, certificates: certificates)
      }
    }
  }

  func readLarge(_ seq: UInt64) {
    read { [node, peer] () throws(ErrorCode) in
      try node.outboundBytes(peer.name, seq: seq)
    } _: { [log = environment.log] result in
      switch result {
      case .failure(let code):
        log.error("reading a large message failed", metadata: ["code": "\(code.name)"])
        return .largeReadFailed
      case .success(let bytes): return .largeRead(bytes)
      }
    }
  }

  func readReceipts(after: UInt64, maxCount: Int) {
    if let rows = node.freshReceipts(peer.name, after: after, maxCount: maxCount) {
      return handle(.receiptsRead(rows.map { ReceiptsRow(seq: $0.seq, receipts: $0.receipts) }))
    }
    read { [node, peer] () throws(ErrorCode) in
      try node.outboundReceipts(peer.name, after: after, maxCount: maxCount)
    } _: { [log = environment.log] result in
      switch result {
      case .failure(let code):
        log.error("reading receipts failed", metadata: ["code": "\(code.name)"])
        return .receiptsReadFailed
      case .success(let rows):
        return .receiptsRead(rows.map { ReceiptsRow(seq: $0.seq, receipts: $0.receipts) })
      }
    }
  }

  func answerDirectory(_ request: UInt32, _ address: Address) {
    read { [node] () throws(ErrorCode) in
      try node.localDirectoryAnswer(address).get()
    } _: { result in
      switch result {
      case .failure(let code): .directoryAnswered(request: request, code, [])
      case .success(let answer): .directoryAnswered(request: request, .none, answer)
      }
    }
  }

  // MARK: - Commits

  func acceptEnvelopes(_ batch: InboundBatch) {
    guard let port else { return }
    let verifier = BatchVerifier(loops: environment.loops) { [node, peer] in
      node.verify($0, from: .peer(peer.name))
    }
    verifier.run(batch.envelopes, home: port.channel.eventLoop) { [node, peer] results in
      node.acceptFromPeer(
        peer.name, epoch: batch.epoch, seqs: batch.seqs, batch: results
      ) { result in
        switch result {
        case .success(let items): port.post(.batchCommitted(batch, items))
        case .failure(let code): port.post(.failed(code))
        }
      }
      port.post(.batchVerified)
    }
  }

  func acceptReceipts(_ ticket: ReceiptsTicket, _ receipts: [[UInt8]]) {
    guard let port else { return }
    node.acceptReceipts(peer.name, epoch: ticket.epoch, seq: ticket.seq, receipts: receipts) { code in
      port.post(.receiptsCommitted(ticket, code))
    }
  }

  func learn(_ certificate: CertificateItem) {
    guard let port else { return }
    // Four signatures to check before it is stored: too much for the event loop when a link brings many.
    environment.pool.submit { [node, peer] state in
      guard case .active = state else { return port.post(.certificateLearned(.shuttingDown)) }
      node.learn(certificate, from: peer.name) { port.post(.certificateLearned($0)) }
    }
  }

  func settle(through: UInt64, _ items: [AckFrame.Item]) {
    guard let port else { return }
    node.settle(peer.name, through: through, items: items) { port.post(.settled(items.count)) }
  }

  func redrawEpoch() {
    guard let port else { return }
    environment.counters.add(.ownRollbacks)
    node.redrawEpoch(peer.name) { _ in port.post(.epochRedrawn) }
  }

  // MARK: - Signals

  /// Before the first read, so that no row slips between the two.
  func watchMailboxes() {
    guard let port, let mailboxes else { return }
    watches =
      node.followOutbox(peer.name) + [
        node.watch(mailbox: mailboxes.envelopes) { port.post(.envelopesAvailable) },
        node.watch(mailbox: mailboxes.receipts) { port.post(.receiptsAvailable) },
      ]
  }

  func reportPeerRollback() {
    environment.counters.add(.peerRollbacks)
    environment.log.error(
      "a peer forgot messages that it had acknowledged: its store went back in time",
      metadata: ["peer": "\(peer.name)", "code": "\(ErrorCode.peerRolledBack.name)"])
  }
}

extension OutboundRow {
  fileprivate init(_ envelope: OutboundEnvelope) {
    self.init(
      seq: envelope.seq, rank: envelope.rank, bytes: envelope.bytes, byteCount: envelope.byteCount,
      senderKid: envelope.senderKid)
  }
}
