package import EngramCore

/// Where the identity key of a further device's client is.
package struct EnrolmentRow: Sendable, Equatable {
  package let approver: Kid
  package let place: String

  package init(approver: Kid, place: String) { (self.approver, self.place) = (approver, place) }
}

extension AccountRow {
  /// A further device that has asked and was not answered yet.
  package var isWaitingForApproval: Bool { pendingRegistration != nil && certificate.isEmpty }
}

extension ClientSnapshot {
  /// nil in the home that holds the identity key.
  package func enrolment() throws -> EnrolmentRow? {
    try first("SELECT approver, place FROM enrolment") { c in
      EnrolmentRow(approver: try c.id16(0), place: try c.text(1))
    }
  }
}

extension ClientTransaction {
  /// The request of a further device was answered: from now on this home has an account.
  package func completeEnrolment(
    certificate: [UInt8], deviceList: [UInt8], _ enrolment: EnrolmentRow
  ) throws {
    try execute(
      "UPDATE account SET certificate = ?, device_list = ?, registration = NULL",
      [.bytes(certificate), .bytes(deviceList)])
    try execute(
      """
      INSERT INTO enrolment (id, approver, place) VALUES (1, ?1, ?2)
      ON CONFLICT (id) DO UPDATE SET approver = ?1, place = ?2
      """, [.bytes(enrolment.approver.bytes), .text(enrolment.place)])
  }

  /// What was said about an address is asked for anew before the next message to it.
  package func expireDirectoryAnswer(_ address: Address) throws {
    try execute("UPDATE directory SET fetched_ms = 0 WHERE address = ?", [.text(address.text)])
  }
}
