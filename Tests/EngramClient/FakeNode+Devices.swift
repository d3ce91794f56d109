import EngramClientStore
import EngramCore
import EngramCrypto
import Synchronization

@testable import EngramClient

extension FakeNode {
  /// Beyond a client's first.
  struct FurtherDevice {
    let address: Address
    let certificate: DeviceCertificate
    var prekey: [UInt8]?
  }

  func certificate(of kid: Kid) -> DeviceCertificate? {
    state.withLock { state in
      state.members.values.first { $0.certificate.kid == kid }?.certificate ?? state.further[kid]?.certificate
    }
  }

  /// In its client's newest list.
  func isActive(_ kid: Kid) -> Bool {
    guard let address = certificate(of: kid)?.body.address,
      let list = state.withLock({ $0.members[address]?.list })
    else { return false }
    return (try? DeviceList(verifying: list).body.isActive(kid)) ?? false
  }

  func furtherBundles(of address: Address, list: [UInt8]) -> [PrekeyBundle] {
    state.withLock { $0.further.values.filter { $0.address == address } }.compactMap { device in
      guard let prekey = device.prekey, isActive(device.certificate.kid) else { return nil }
      return PrekeyBundle(deviceList: list, certificate: device.certificate.bytes, signedPrekey: prekey)
    }.sorted { $0.certificate.lexicographicallyPrecedes($1.certificate) }
  }

  /// As a node judges it.
  func addDevice(_ request: NodeRequest) -> NodeReply {
    guard let kid = kid(of: request), let session = certificate(of: kid)?.body.address else {
      return problem(401, .sessionExpired)
    }
    guard request.headers.contains(where: { $0.value == "application/vnd.engram.device" }),
      let item = try? CertificateItem(parsing: request.body[...]),
      let certificate = try? DeviceCertificate(verifying: item.certificate),
      let list = try? DeviceList(verifying: item.deviceList), certificate.body.address == session,
      list.body.isActive(certificate.kid), list.body.isActive(kid)
    else { return problem(422, .badCertificate) }
    let code = state.withLock { state -> ErrorCode in
      guard let member = state.members[session], let known = try? DeviceList(verifying: member.list) else {
        return .notFound
      }
      guard known.body.identity == list.body.identity else { return .identityChanged }
      if let there = state.further[certificate.kid] {
        let isRepeated = there.certificate.bytes == certificate.bytes && known.bytes == list.bytes
        return isRepeated ? .none : .deviceKnown
      }
      guard known.body.version < list.body.version else { return .staleDeviceList }
      state.members[session]?.list = list.bytes
      state.further[certificate.kid] = FurtherDevice(address: session, certificate: certificate)
      return .none
    }
    guard code == .none else { return problem(409, code) }
    return NodeReply(status: 201, body: directory(session.text).body)
  }
}

extension TestWorld {
  func requestDevice(
    _ home: String, of client: EngramClient, at node: FakeNode, identity: SigningPublicKey? = nil
  ) async throws -> DeviceRequestInfo {
    let enroller = DeviceEnroller(
      home: folder + "/" + home, endpoint: "127.0.0.1:7443", serverName: "localhost", passphrase: nil,
      nowMs: { [clock] in clock.nowMs })
    let account = client.core.account
    return try await enroller.request(
      account.address, identity: identity ?? account.identity, node.transport)
  }

  func acceptDevice(_ answer: String, _ home: String, at node: FakeNode) async throws -> EngramClient {
    let (store, account, keys) = try EngramClient.openHome(folder + "/" + home, nil)
    return try await DeviceEnroller.accept(
      answer, store, account, keys, transport: node.transport,
      clock: ClientClock(wall: { [clock] in clock.nowMs }, monotonic: { [clock] in clock.nowMs }))
  }

  /// All three steps.
  func enrolDevice(_ home: String, of client: EngramClient, at node: FakeNode) async throws -> EngramClient {
    let request = try await requestDevice(home, of: client, at: node)
    return try await acceptDevice(try await client.approveDevice(request.text).text, home, at: node)
  }
}
