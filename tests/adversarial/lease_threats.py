"""The threats to a lease, each with the checks that refuse it and the tests that show it.

`python -m tests.adversarial.lease_threats` prints the table. `tests/unit/aicert/leasing` checks
that each test exists and mentions its check, and that each check refuses something. `rest` says
what is not shown, or what nobody promises.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

LICENCE = "tests.e2e.lease.test_lease_licence"
RECEIPTS = "tests.e2e.lease.test_lease_receipts"
STORY = "tests.e2e.lease.test_lease_story"
TPM = "tests.e2e.serving.test_serving_tpm"
MACHINE = "tests.e2e.serving.test_serving_machine"
PROCESS = "tests.e2e.serving.test_serving_process"
KILLED = "tests.e2e.serving.test_serving_killed"
LEASE = "tests.unit.aicert.lease"
LEASING = "tests.unit.aicert.leasing"
BROKER = "tests.unit.aicert.broker"
CONSUMER = "tests.unit.aicert.serving"
SERVING = "tests.unit.enclave_runner.serving"
BOOT = "tests.machine.test_serving"
FROZEN = f"{BOOT}.test_watch_clock_of_a_machine_that_is_frozen_past_its_deadline"
OTHER_FIRMWARE = f"{BOOT}.test_licence_tpm_of_a_machine_with_other_firmware_variables"
ADDED = f"{BOOT}.test_licence_tpm_of_a_machine_with_an_addition_to_its_command_line"
DIFFERENT = f"{BOOT}.test_bundle_files_of_weights_that_differ_by_a_byte"
# Parts that refuse without a check in `aicert.lease.checks`: a gateway, a meter, a clock.
MACHINES_OWN: Final = (
    "gateway.route", "gateway.request", "meter.paid", "meter.usage", "watch.clock",
)  # fmt: skip


@dataclass(frozen=True)
class Threat:
    attack: str
    checks: tuple[str, ...]
    proofs: tuple[str, ...]
    rest: str = ""

    @property
    def is_booted(self) -> bool:
        """Whether a booted machine shows it, besides processes with a software TPM."""
        return any(proof.startswith(f"{BOOT}.") for proof in self.proofs)


THREATS: Final = (
    Threat("a licence's budget, epoch, clock, resets or restarts are edited", ("licence.tpm",), (
        f"{LEASE}.test_licence.test_licence_tpm_refuses_an_edited_licence",
        f"{LICENCE}.test_licence_tpm_edited_numbers_and_left_out_terms")),
    Threat("the policy is run without one of its terms", ("licence.tpm",), (
        f"{LICENCE}.test_licence_tpm_edited_numbers_and_left_out_terms",)),
    Threat("a licence of another custodian, lease, terms or machine", ("licence.tpm",), (
        f"{LEASE}.test_licence.test_licence_tpm_refuses_another_custodian",
        f"{LICENCE}.test_licence_tpm_other_custodian_lease_terms_and_machine")),
    Threat("another image, or the right one with addons", ("licence.tpm", "enrol.image"), (
        f"{LICENCE}.test_licence_tpm_other_registers",
        f"{LEASING}.test_enrolments.test_a_forged_enrolment_is_refused_by_its_check",
        FROZEN, ADDED)),
    Threat("opened again in the same boot, or after a stop", ("licence.tpm", "enrol.registers"), (
        f"{LICENCE}.test_licence_tpm_other_registers",
        f"{TPM}.test_a_lease_is_opened_once_a_boot_and_leaves_no_session",
        f"{STORY}.test_enrol_registers_of_a_machine_that_serves", FROZEN, DIFFERENT),
        "a booted machine never asks its TPM a second time"),
    Threat("the meter is at the budget, the deadline past, the licence an old one",
        ("licence.tpm", "meter.paid"), (
        f"{LICENCE}.test_licence_tpm_meter_deadline_and_epoch",
        f"{TPM}.test_meter_paid_at_the_budget_opens_nothing")),
    Threat("power cuts, so that the TPM's clock stands still", ("licence.tpm", "ledger.clock"), (
        f"{LICENCE}.test_licence_tpm_boots_and_resumes",
        f"{LEASE}.test_ledger.test_a_power_cut_may_cost_the_clock_an_hour_and_not_more")),
    Threat("the TPM is resumed: a good boot's registers for another system",
        ("licence.tpm", "receipt.boot", "serve.boot"), (
        f"{LICENCE}.test_licence_tpm_boots_and_resumes",
        f"{RECEIPTS}.test_receipt_boot_refuses_a_tpm_that_was_resumed",
        f"{TPM}.test_serve_boot_refuses_a_tpm_that_was_resumed")),
    Threat("counters are made again, or something else in their place",
        ("licence.tpm", "enrol.counters"), (
        f"{LICENCE}.test_licence_tpm_counters_made_again",
        f"{STORY}.test_enrol_counters_that_are_none")),
    Threat("TPM2_Clear", ("licence.tpm", "ledger.clock"), (
        f"{LICENCE}.test_licence_tpm_after_a_clear",
        f"{RECEIPTS}.test_ledger_clock_refuses_a_cleared_tpm",
        f"{BROKER}.test_broker.test_ledger_clock_of_a_tpm_that_was_cleared")),
    Threat("the clock is set back", ("ledger.clock",), (
        f"{LEASE}.test_ledger.test_a_receipt_that_does_not_follow_is_refused_by_its_check",
        f"{LICENCE}.test_licence_tpm_meter_deadline_and_epoch")),
    Threat("the TPM's state is put back", ("ledger.meter",), (
        f"{LICENCE}.test_state_that_is_put_back_opens_an_old_licence",
        f"{RECEIPTS}.test_ledger_meter_refuses_state_that_was_put_back",
        f"{BROKER}.test_broker.test_ledger_meter_of_state_that_was_put_back"),
        "nothing refuses it in offline leases"),
    Threat("the state runs twice, the TPM's alone or memory too",
        ("ledger.successor", "order.answer", "answer.number"), (
        f"{RECEIPTS}.test_ledger_successor_refuses_state_that_runs_twice",
        f"{BROKER}.test_broker.test_ledger_successor_of_a_copy_that_runs",
        f"{BROKER}.test_broker.test_of_twins_of_memory_and_tpm_one_is_answered",
        f"{LEASING}.test_client_receipts.test_an_answer_that_does_not_fit_is_refused_by_its_check"),
        "a copy serves what its last licence allowed; no two machines are booted for it"),
    Threat("receipts are replayed, dropped, reordered, edited, or of something else",
        ("receipt.signature", "receipt.form", "receipt.index", "receipt.body", "receipt.fresh",
         "ledger.successor"), (
        f"{LEASE}.test_receipts.test_an_edited_receipt_is_refused_by_its_check",
        f"{LEASE}.test_ledger.test_ledger_successor_takes_receipts_in_their_order_only",
        f"{LEASING}.test_accounts.test_what_does_not_add_up_is_refused_by_its_check",
        f"{BROKER}.test_broker.test_receipts_that_are_refused",
        f"{BROKER}.test_broker.test_receipt_fresh_answers_the_brokers_latest_nonce")),
    Threat("the machine is frozen past the deadline, and goes on", ("watch.clock",), (
        f"{SERVING}.test_watch.test_watch_clock_takes_the_one_that_is_further",
        f"{MACHINE}.test_watch_clock_goes_on_while_the_tpm_does_not_answer",
        f"{MACHINE}.test_watch_clock_ends_what_nobody_renews", FROZEN)),
    Threat("a satisfied session is kept, and unseals after the deadline", ("licence.tpm",), (
        f"{LICENCE}.test_a_satisfied_session_outlives_the_deadline_and_no_register",
        f"{TPM}.test_a_lease_is_opened_once_a_boot_and_leaves_no_session",
        f"{LICENCE}.test_licence_tpm_meter_deadline_and_epoch")),
    Threat("the courier drops everything", ("watch.clock",), (
        f"{MACHINE}.test_watch_clock_ends_what_nobody_renews", FROZEN)),
    Threat("an old grant is replayed after a revocation", ("order.epoch", "order.answer"), (
        f"{LEASE}.test_orders.test_an_order_that_is_not_the_answer_is_refused_by_its_check",
        f"{MACHINE}.test_order_answer_to_something_else_changes_nothing",
        OTHER_FIRMWARE, DIFFERENT)),
    Threat("another bundle under the licence; chunks swapped, cut, flipped",
        ("bundle.header", "bundle.chunks", "bundle.files", "terms.digest"), (
        f"{LEASE}.test_bundle.test_bundle_chunks_that_are_not_in_their_place",
        f"{LEASE}.test_bundle.test_bundle_chunks_no_byte_can_be_changed",
        f"{LEASE}.test_bundle.test_bundle_header_has_one_form",
        f"{SERVING}.test_load.test_bundle_files_of_another_certificate",
        f"{SERVING}.test_load.test_terms_digest_of_other_terms_or_another_custodian")),
    Threat("weights that differ by a byte from the certificate's", ("bundle.files",), (
        f"{LEASE}.test_bundle.test_bundle_files_that_are_not_those_of_the_header",
        f"{MACHINE}.test_bundle_files_that_are_refused_end_the_boot",
        DIFFERENT)),
    Threat("pickles, code or pointers in the custodian's bundle", ("bundle.inert",), (
        f"{SERVING}.test_load.test_bundle_inert_or_nothing_is_served",
        f"{SERVING}.test_load.test_code_and_pickles_beside_the_weights_are_not_shown")),
    Threat("other routes, parameters, spellings; requests that two readers read differently",
        ("gateway.route", "gateway.request"), (
        f"{SERVING}.test_requests.test_gateway_route_of_another_name_or_spelling",
        f"{SERVING}.test_requests.test_gateway_request_that_two_readers_could_cut_differently",
        f"{SERVING}.test_requests.test_gateway_request_for_what_is_not_served",
        f"{SERVING}.test_wire.test_gateway_request_of_another_form_is_refused",
        f"{PROCESS}.test_what_the_engine_would_do_for_anybody_is_not_reached",
        f"{PROCESS}.test_gateway_request_of_any_abuse_costs_and_harms_nothing")),
    Threat("the engine counts 0, less than nothing, nothing, too much, or crashes",
        ("meter.usage",), (
        f"{SERVING}.test_meter.test_meter_usage_that_cannot_be_counts_as_the_whole_reserve",
        f"{SERVING}.test_gateway.test_meter_usage_that_is_not_believed_ends_serving",
        f"{SERVING}.test_gateway.test_an_engine_that_breaks_off_is_counted_whole",
        f"{MACHINE}.test_meter_usage_that_is_not_believed_ends_serving")),
    Threat("clients leave, ask for 128 answers or a thousand million tokens, come by thousands",
        ("gateway.request", "meter.paid"), (
        f"{SERVING}.test_requests.test_gateway_request_for_what_is_not_served",
        f"{SERVING}.test_requests.test_gateway_request_that_is_longer_than_the_model_reads",
        f"{SERVING}.test_gateway.test_a_client_who_leaves_is_counted_as_one_who_stays",
        f"{SERVING}.test_meter.test_what_was_served_is_never_more_than_what_was_paid",
        f"{TPM}.test_meter_paid_at_the_budget_opens_nothing",
        f"{KILLED}.test_what_was_served_was_paid_however_it_dies",
        f"{PROCESS}.test_gateway_request_of_any_abuse_costs_and_harms_nothing",
        f"{PROCESS}.test_a_thousand_connections_leave_room_for_who_waits")),
    Threat("a relay with a TLS key of its own", ("serve.channel",), (
        f"{CONSUMER}.test_connections.test_serve_channel_of_a_relay_with_a_key_of_its_own",)),
    Threat("a relay with the machine's stolen TLS key", ("serve.channel",), (
        f"{CONSUMER}.test_connections.test_serve_channel_of_a_relay_with_the_machines_stolen_key",
        f"{MACHINE}.test_serve_channel_of_another_connection_with_the_same_key")),
    Threat("evidence is replayed, or is of an old nonce; a session is resumed",
        ("serve.fresh", "serve.channel"), (
        f"{CONSUMER}.test_connections.test_serve_fresh_of_evidence_that_is_replayed",
        f"{CONSUMER}.test_connections.test_serve_channel_of_old_evidence_under_a_new_nonce",
        f"{SERVING}.test_listener.test_no_session_is_resumed")),
    Threat("another genuine machine, lease, model, or what it says it is not",
        ("serve.lease", "serve.model", "serve.terms", "serve.boot", "serve.registers",
         "serve.quote", "serve.image", "serve.firmware"), (
        f"{CONSUMER}.test_connections.test_serve_lease_that_is_not_the_consumers",
        f"{CONSUMER}.test_connections.test_serve_boot_that_is_another_than_the_first",
        f"{LEASING}.test_serving.test_serve_model_of_a_certificate_that_does_not_pass",
        f"{LEASING}.test_serving.test_a_machine_that_is_another_is_refused_by_its_check")),
    Threat("a prompt before the judgement, or after another connection's", ("serve.channel",), (
        f"{CONSUMER}.test_connections.test_an_honest_machine_is_asked_after_it_was_judged",
        f"{CONSUMER}.test_endpoint.test_serve_channel_of_a_later_connection_ends_the_endpoint")),
    Threat("a simulated TPM under a cloud's policy; another key in its place",
        ("enrol.chain", "enrol.tier", "serve.chain", "serve.tier"), (
        f"{LEASING}.test_enrolments.test_a_forged_enrolment_is_refused_by_its_check",
        f"{LEASING}.test_enrolments.test_enrol_tier_below_the_policys",
        f"{LEASING}.test_serving.test_a_machine_that_is_another_is_refused_by_its_check",
        f"{CONSUMER}.test_connections.test_serve_tier_of_a_simulated_machine_under_a_clouds_policy")),
    Threat("a receipt key with a password, duplicable, unrestricted, not of the image",
        ("enrol.policy-ak", "enrol.storage-key", "enrol.quote", "enrol.nonce"), (
        f"{LEASE}.test_receipts.test_enrol_policy_ak_of_another_kind_is_refused",
        f"{LEASING}.test_enrolments.test_a_forged_enrolment_is_refused_by_its_check")),
    Threat("other ports, connections from inside, half-open ones by thousands", (), (
        f"{SERVING}.test_listener.test_a_flood_of_connections_leaves_nothing_behind",
        f"{SERVING}.test_listener.test_who_comes_when_all_rooms_are_taken_is_turned_away",
        FROZEN, OTHER_FIRMWARE)),
    Threat("weights on a disk, in a log, on a console, in a core or in swap", (), (
        f"{PROCESS}.test_weights_are_in_memory_and_nowhere_else",
        f"{SERVING}.test_load.test_weights_are_in_memory_only", FROZEN)),
    Threat("weights carried out in answers", (), (
        f"{SERVING}.test_gateway.test_an_answer_has_at_most_the_bytes_that_were_agreed",
        f"{SERVING}.test_gateway.test_bytes_count_where_an_engine_says_too_little"),
        "100 GB are 6,250 million paid tokens of 16 bytes; nothing refuses that many"),
    Threat("the broker is killed anywhere; two brokers", (), (
        f"{BROKER}.test_killed.test_a_broker_that_is_killed_while_it_enrols",
        f"{BROKER}.test_killed.test_a_broker_that_is_killed_while_it_grants",
        f"{BROKER}.test_killed.test_a_broker_that_is_killed_at_any_line",
        f"{BROKER}.test_custodian.test_two_brokers_on_one_ledger_are_one")),
    Threat("secrets in the broker's log, errors or core", (), (
        f"{BROKER}.test_app.test_secrets_are_in_no_answer_log_file_or_representation",)),
    Threat("enrolled honestly, and booted with another driver or Secure Boot state",
        ("licence.tpm", "enrol.firmware"), (
        f"{LICENCE}.test_licence_tpm_other_registers",
        f"{LEASING}.test_enrolments.test_a_forged_enrolment_is_refused_by_its_check",
        OTHER_FIRMWARE)),
    Threat("two live boots of one lease", ("ledger.boots",), (
        f"{BROKER}.test_broker.test_ledger_boots_no_second_boot_while_the_first_may_serve",
        f"{BROKER}.test_broker.test_whatever_couriers_do_no_more_may_be_served_than_was_granted")),
    Threat("the broker's half for a key that nothing attests", ("ledger.boots",), (
        f"{BROKER}.test_broker.test_a_half_is_sealed_to_what_a_receipt_names",
        f"{BROKER}.test_broker.test_ledger_boots_a_half_is_given_once_a_boot")),
    Threat("a ledger from a backup that is older than what was granted", (), (
        f"{BROKER}.test_custodian.test_an_older_ledger_gives_nothing_until_its_custodian_says_so",
        f"{BROKER}.test_custodian.test_generations_only_rise")),
    Threat("a receipt of an answer that this machine did not give, or gave to somebody else",
        ("answer.signature", "answer.fresh", "answer.channel", "answer.body", "answer.boot"), (
        f"{CONSUMER}.test_answer_receipts.test_a_receipt_of_something_else_is_refused_by_its_check",
        f"{LEASING}.test_client_receipts.test_an_answer_that_does_not_fit_is_refused_by_its_check")),
    Threat("more served than receipted, or counted wrongly",
        ("ledger.tokens", "ledger.state", "order.signature"), (
        f"{LEASE}.test_ledger.test_a_receipt_that_does_not_follow_is_refused_by_its_check",
        f"{LEASE}.test_ledger.test_ledger_state_stays_revoked",
        f"{LEASE}.test_orders.test_order_signature_covers_every_byte",
        f"{LEASING}.test_client_receipts.test_clients_hold_no_more_than_was_counted")),
)  # fmt: skip


def lines() -> Iterator[str]:
    """Return the table, one line per row."""
    for number, threat in enumerate(THREATS, 1):
        refused = ", ".join(threat.checks) or "no check: by how it is built"
        rest = f"; {threat.rest}" if threat.rest else ""
        tests = f"{len(threat.proofs)} tests{', booted too' if threat.is_booted else ''}"
        yield f"{number:>2}  {threat.attack}\n    {refused}: {tests}{rest}"


if __name__ == "__main__":
    print(*lines(), sep="\n")
