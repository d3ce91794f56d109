internal import EngramCore

extension NodeAPI {
  /// - Returns: the node's signed directory answer about this client.
  func addDevice(_ item: CertificateItem) async throws -> [UInt8] {
    let request = NodeRequest(
      "POST", path("devices"), contentType: "application/vnd.engram.device", body: item.encoded())
    return try await authorised(request, expecting: [201]).body
  }
}
