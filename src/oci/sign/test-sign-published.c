/* SPDX-License-Identifier: MIT */
/*
 * A signature that others have made with sigstore's own services, so that our reading of the formats does not only agree
 * with itself: a bundle from sigstore-conformance (rekor2-multiple-timestamps-one-outside-cert-validity), a message
 * signature with a certificate by Fulcio, an entry in a log of the second generation, timestamps. Its subject is a text
 * file; of the two timestamps that it has there, the first alone makes it good.
 *
 * The trusted root is sigstore's published one, cut down to what this needs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "sign/test-sign-world.h"

static struct sign_root *parse_root(const char *json)
{
	struct sign_root *root = NULL;
	struct err e = {0};

	if (sign_root_parse(json, strlen(json), &root, &e) < 0)
		fail_msg("%s", e.msg);
	return root;
}

static const char staging_root[] =
	"{\"mediaType\":\"application/"
	"vnd.dev.sigstore.trustedroot+json;version=0.1\",\"tlogs\":[{\"baseUrl\":"
	"\"https://"
	"log2025-alpha1.rekor.sigstage.dev\",\"hashAlgorithm\":\"SHA2_256\",\"publicKey\":{\"rawBytes\":"
	"\"MCowBQYDK2VwAyEAPn+AREHoBaZ7wgS1zBqpxmLSGnyhxXj4lFxSdWVB8o8=\",\"keyDetails\":\"PKIX_ED25519\","
	"\"validFor\":{"
	"\"start\":\"2025-04-16T00:00:00Z\"}},\"logId\":{\"keyId\":\"8w1amZ2S5mJIQkQmPxdMuOrL/"
	"oJkvFg9MnQXmeOCXck=\"}}],"
	"\"certificateAuthorities\":[{\"uri\":\"https://"
	"fulcio.sigstage.dev\",\"certChain\":{\"certificates\":[{\"rawBytes\":"
	"\"MIICGTCCAaCgAwIBAgITJta/"
	"okfgHvjabGm1BOzuhrwA1TAKBggqhkjOPQQDAzAqMRUwEwYDVQQKEwxzaWdzdG9yZS5kZXYxETAPBgNVBAMT"
	"CHNpZ3N0b3JlMB4XDTIyMDQxNDIxMzg0MFoXDTMyMDMyMjE2NTA0NVowNzEVMBMGA1UEChMMc2lnc3RvcmUuZGV2MR4wHAYDVQQD"
	"ExVzaWdzdG"
	"9yZS1pbnRlcm1lZGlhdGUwdjAQBgcqhkjOPQIBBgUrgQQAIgNiAASosAySWJQ/tK5r8T5aHqavk0oI+BKQbnLLdmOMRXHQF/"
	"4Hx9KtNfpcdjH9"
	"hNKQSBxSlLFFN3tvFCco0qFBzWYwZtsYsBe1l91qYn/9VHFTaEVwYQWIJEEvrs0fvPuAqjajezB5MA4GA1UdDwEB/"
	"wQEAwIBBjATBgNVHSUEDD"
	"AKBggrBgEFBQcDAzASBgNVHRMBAf8ECDAGAQH/AgEAMB0GA1UdDgQWBBRxhjCmFHxib/n31vQFGn9f/"
	"+tvrDAfBgNVHSMEGDAWgBT/QjK6aH2r"
	"OnCv3AzUGuI+h49mZTAKBggqhkjOPQQDAwNnADBkAjAM1lbKkcqQlE/UspMTbWNo1y2TaJ44tx3l/"
	"FJFceTSdDZ+0W1OHHeU4twie/lq8XgCMH"
	"QxgEv26xNNiAGyPXbkYgrDPvbOqp0UeWX4mJnLSrBr3aN/KX1SBrKQu220FmVL0Q==\"},{\"rawBytes\":"
	"\"MIIB9jCCAXugAwIBAgITDdEJvluliE0AzYaIE4jTMdnFTzAKBggqhkjOPQQDAzAqMRUwEwYDVQQKEwxzaWdzdG9yZS5kZXYxET"
	"APBgNVBAMT"
	"CHNpZ3N0b3JlMB4XDTIyMDMyNTE2NTA0NloXDTMyMDMyMjE2NTA0NVowKjEVMBMGA1UEChMMc2lnc3RvcmUuZGV2MREwDwYDVQQD"
	"EwhzaWdzdG"
	"9yZTB2MBAGByqGSM49AgEGBSuBBAAiA2IABMo9BUNk9QIYisYysC24+2OytoV72YiLonYcqR3yeVnYziPt7Xv++"
	"CYE8yoCTiwedUECCWKOcvQK"
	"RCJZb9ht4Hzy+VvBx36hK+C6sECCSR0x6pPSiz+cTk1f788ZjBlUZaNjMGEwDgYDVR0PAQH/BAQDAgEGMA8GA1UdEwEB/"
	"wQFMAMBAf8wHQYDVR"
	"0OBBYEFP9CMrpofas6cK/cDNQa4j6Hj2ZlMB8GA1UdIwQYMBaAFP9CMrpofas6cK/"
	"cDNQa4j6Hj2ZlMAoGCCqGSM49BAMDA2kAMGYCMQD+koju"
	"zMwztNay9Ibzjuk//ZL5m6T2OCsm45l1lY004pcb984L926BowodoirFMcMCMQDIJtFHhP/"
	"1D3a+M3dAGomOb6O4CmTry3TTPbPsAFnv22YA0Y"
	"+P21NVoxKDjdu0tkw=\"}]},\"validFor\":{\"start\":\"2022-04-14T21:38:40Z\"}}],\"ctlogs\":[{"
	"\"baseUrl\":"
	"\"https://ctfe.sigstage.dev/2022-2\",\"hashAlgorithm\":\"SHA2_256\",\"publicKey\":{\"rawBytes\":"
	"\"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8gEDKNme8AnXuPBgHjrtXdS6miHqc24CRblNEOFpiJRngeq8Ko73Y+"
	"K18yRYVf1DXD4AVLwv"
	"KyzdNdl5n0jUSQ==\",\"keyDetails\":\"PKIX_ECDSA_P256_SHA_256\",\"validFor\":{\"start\":\"2022-07-"
	"01T00:00:00Z\"}},"
	"\"logId\":{\"keyId\":\"KzC83GiIyeLh2CYpXnQfSDkxlgLynDPLXkNA/"
	"rKshno=\"}}],\"timestampAuthorities\":[{\"uri\":"
	"\"https://timestamp.sigstage.dev/api/v1/timestamp\",\"certChain\":{\"certificates\":[{\"rawBytes\":"
	"\"MIICDzCCAZagAwIBAgIUCjWhBmHV4kFzxomWp/"
	"J98n4DfKcwCgYIKoZIzj0EAwMwOTEVMBMGA1UEChMMc2lnc3RvcmUuZGV2MSAwHgYDVQQD"
	"ExdzaWdzdG9yZS10c2Etc2VsZnNpZ25lZDAeFw0yNTAzMjgwOTE0MDZaFw0zNTAzMjYwODE0MDZaMC4xFTATBgNVBAoTDHNpZ3N0"
	"b3JlLmRldj"
	"EVMBMGA1UEAxMMc2lnc3RvcmUtdHNhMHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEx1v5F3HpD9egHuknpBFlRz7QBRDJu4aeVzt9zJ"
	"LRY0lvmx1l"
	"F7WBM2c9AN8ZGPQsmDqHlJN2R/7+RxLkvlLzkc19IOx38t7mGGEcB7agUDdCF/Ky3RTLSK0Xo/"
	"0AgHQdo2owaDAOBgNVHQ8BAf8EBAMCB4AwHQ"
	"YDVR0OBBYEFKj8ZPYo3i7mO3NPVIxSxOGc3VOlMB8GA1UdIwQYMBaAFDsgRlletTJNRzDObmPuc3RH8gR9MBYGA1UdJQEB/"
	"wQMMAoGCCsGAQUF"
	"BwMIMAoGCCqGSM49BAMDA2cAMGQCMESvVS6GGtF33+J19TfwENWJXjRv4i0/"
	"HQFwLUSkX6TfV7g0nG8VnqNHJLvEpAtOjQIwUD3uywTXorQP1D"
	"gbV09rF9Yen+CEqs/iEpieJWPst280SSOZ5Na+dyPVk9/8SFk6\"},{\"rawBytes\":"
	"\"MIIB9zCCAXygAwIBAgIUCPExEFKiQh0dP4sp5ltmSYSSkFUwCgYIKoZIzj0EAwMwOTEVMBMGA1UEChMMc2lnc3RvcmUuZGV2MS"
	"AwHgYDVQQD"
	"ExdzaWdzdG9yZS10c2Etc2VsZnNpZ25lZDAeFw0yNTAzMjgwOTE0MDZaFw0zNTAzMjYwODE0MDZaMDkxFTATBgNVBAoTDHNpZ3N0"
	"b3JlLmRldj"
	"EgMB4GA1UEAxMXc2lnc3RvcmUtdHNhLXNlbGZzaWduZWQwdjAQBgcqhkjOPQIBBgUrgQQAIgNiAATt0tIDWyo4ARfL9BaSo0W5bJ"
	"QEbKJTU/u7"
	"llvdjSI5aTkOAJa8tixn2+LEfPG4dMFdsMPtsIuU1qn2OqFiuMk6vHv/"
	"c+az25RQVY1oo50iMb0jIL3N4FgwhPFpZnCbQPOjRTBDMA4GA1UdDw"
	"EB/wQEAwIBBjASBgNVHRMBAf8ECDAGAQH/AgEAMB0GA1UdDgQWBBQ7IEZZXrUyTUcwzm5j7nN0R/"
	"IEfTAKBggqhkjOPQQDAwNpADBmAjEA2MI1"
	"VXgbf3dUOSc95hSRypBKOab18eh2xzQtxUsHvWeY+1iFgyMluUuNR6taoSmFAjEA31m2czguZhKYX+"
	"4JSKu5pRYhBTXAd8KKQ3xdPRX/qCaLvT"
	"2qJAEQ1YQM3EJRrtI7\"}]},\"validFor\":{\"start\":\"2025-04-09T00:00:00Z\"}}]}";

#define REKOR2_CERTIFICATE \
	"MIIIMTCCB7egAwIBAgIUJGo5qgyKJj/" \
	"TX1P23VhIcFW0gi4wCgYIKoZIzj0EAwMwNzEVMBMGA1UEChMMc2lnc3RvcmUuZGV2MR4wHAYDVQQDEx" \
	"VzaWdzdG9yZS1pbnRlcm1lZGlhdGUwHhcNMjUwNjEyMTIwMjE2WhcNMjUwNjEyMTIxMjE2WjAAMFkwEwYHKoZIzj0CAQYIKoZI" \
	"zj0DAQcDQgAE" \
	"9WKdUhMKYRNGrsqtBl4wwhbuz+" \
	"RNC1muGGSzMvNHwriIWC55x1KX3DiRADCKt38HhBY1CLjnB1Hc3qxtZCrDX6OCBtYwggbSMA4GA1UdDwEB/w" \
	"QEAwIHgDATBgNVHSUEDDAKBggrBgEFBQcDAzAdBgNVHQ4EFgQU/" \
	"2fXeMOxe3bGQ691Q+dusSVoh90wHwYDVR0jBBgwFoAUcYYwphR8Ym/599b0" \
	"BRp/X//rb6wwgaUGA1UdEQEB/" \
	"wSBmjCBl4aBlGh0dHBzOi8vZ2l0aHViLmNvbS9zaWdzdG9yZS1jb25mb3JtYW5jZS9leHRyZW1lbHktZGFuZ2" \
	"Vyb3VzLXB1YmxpYy1vaWRjLWJlYWNvbi8uZ2l0aHViL3dvcmtmbG93cy9leHRyZW1lbHktZGFuZ2Vyb3VzLW9pZGMtYmVhY29u" \
	"LnltbEByZWZz" \
	"L2hlYWRzL21haW4wOQYKKwYBBAGDvzABAQQraHR0cHM6Ly90b2tlbi5hY3Rpb25zLmdpdGh1YnVzZXJjb250ZW50LmNvbTAfBg" \
	"orBgEEAYO/MA" \
	"ECBBF3b3JrZmxvd19kaXNwYXRjaDA2BgorBgEEAYO/" \
	"MAEDBCg5NzM5Nzk4OTQ1YjJhODQ4ZTkxMWJjZjFkZGRiOTcyOThjYWRlMGIxMC0GCisG" \
	"AQQBg78wAQQEH0V4dHJlbWVseSBkYW5nZXJvdXMgT0lEQyBiZWFjb24wSQYKKwYBBAGDvzABBQQ7c2lnc3RvcmUtY29uZm9ybW" \
	"FuY2UvZXh0cm" \
	"VtZWx5LWRhbmdlcm91cy1wdWJsaWMtb2lkYy1iZWFjb24wHQYKKwYBBAGDvzABBgQPcmVmcy9oZWFkcy9tYWluMDsGCisGAQQB" \
	"g78wAQgELQwr" \
	"aHR0cHM6Ly90b2tlbi5hY3Rpb25zLmdpdGh1YnVzZXJjb250ZW50LmNvbTCBpgYKKwYBBAGDvzABCQSBlwyBlGh0dHBzOi8vZ2" \
	"l0aHViLmNvbS" \
	"9zaWdzdG9yZS1jb25mb3JtYW5jZS9leHRyZW1lbHktZGFuZ2Vyb3VzLXB1YmxpYy1vaWRjLWJlYWNvbi8uZ2l0aHViL3dvcmtm" \
	"bG93cy9leHRy" \
	"ZW1lbHktZGFuZ2Vyb3VzLW9pZGMtYmVhY29uLnltbEByZWZzL2hlYWRzL21haW4wOAYKKwYBBAGDvzABCgQqDCg5NzM5Nzk4OT" \
	"Q1YjJhODQ4ZT" \
	"kxMWJjZjFkZGRiOTcyOThjYWRlMGIxMB0GCisGAQQBg78wAQsEDwwNZ2l0aHViLWhvc3RlZDBeBgorBgEEAYO/" \
	"MAEMBFAMTmh0dHBzOi8vZ2l0" \
	"aHViLmNvbS9zaWdzdG9yZS1jb25mb3JtYW5jZS9leHRyZW1lbHktZGFuZ2Vyb3VzLXB1YmxpYy1vaWRjLWJlYWNvbjA4BgorBg" \
	"EEAYO/MAENBC" \
	"oMKDk3Mzk3OTg5NDViMmE4NDhlOTExYmNmMWRkZGI5NzI5OGNhZGUwYjEwHwYKKwYBBAGDvzABDgQRDA9yZWZzL2hlYWRzL21h" \
	"aW4wGQYKKwYB" \
	"BAGDvzABDwQLDAk2MzI1OTY4OTcwNwYKKwYBBAGDvzABEAQpDCdodHRwczovL2dpdGh1Yi5jb20vc2lnc3RvcmUtY29uZm9ybW" \
	"FuY2UwGQYKKw" \
	"YBBAGDvzABEQQLDAkxMzE4MDQ1NjMwgaYGCisGAQQBg78wARIEgZcMgZRodHRwczovL2dpdGh1Yi5jb20vc2lnc3RvcmUtY29u" \
	"Zm9ybWFuY2Uv" \
	"ZXh0cmVtZWx5LWRhbmdlcm91cy1wdWJsaWMtb2lkYy1iZWFjb24vLmdpdGh1Yi93b3JrZmxvd3MvZXh0cmVtZWx5LWRhbmdlcm" \
	"91cy1vaWRjLW" \
	"JlYWNvbi55bWxAcmVmcy9oZWFkcy9tYWluMDgGCisGAQQBg78wARMEKgwoOTczOTc5ODk0NWIyYTg0OGU5MTFiY2YxZGRkYjk3" \
	"Mjk4Y2FkZTBi" \
	"MTAhBgorBgEEAYO/MAEUBBMMEXdvcmtmbG93X2Rpc3BhdGNoMIGCBgorBgEEAYO/" \
	"MAEVBHQMcmh0dHBzOi8vZ2l0aHViLmNvbS9zaWdzdG9yZS" \
	"1jb25mb3JtYW5jZS9leHRyZW1lbHktZGFuZ2Vyb3VzLXB1YmxpYy1vaWRjLWJlYWNvbi9hY3Rpb25zL3J1bnMvMTU2MDk4Nzcw" \
	"ODYvYXR0ZW1w" \
	"dHMvMTAWBgorBgEEAYO/" \
	"MAEWBAgMBnB1YmxpYzCBiQYKKwYBBAHWeQIEAgR7BHkAdwB1ACswvNxoiMni4dgmKV50H0g5MZYC8pwzy15DQP6yrI" \
	"Z6AAABl2QE9+" \
	"oAAAQDAEYwRAIgcMDyOAyLXLPjZqFcfQgMvctTQo8lhUXYyU1cQDfWyy0CIB9ybqPHF1jY9pbZMHYUJd2gPtapR90L/RYQIo2S" \
	"dI7NMAoGCCqGSM49BAMDA2gAMGUCMASvG7iyBIiTLy+l5YjKtSs43sNA0lg7JM/oJXwk/" \
	"20B26P5Yl6SBKOHypGeoM28EAIxAOkdwVfpMuDU32" \
	"aAf61O4CA1c4Sr1CjCuRmfQ3NfcxYzNTPmtTGwZuIDjKj29ZRBWA=="
#define REKOR2_SIGNATURE \
	"MEYCIQDM0YxJn7VsUc7FvU7SBXelSzFUWewaeQlbhP5mbpVnawIhAPaZ5dns1a38KgelWWCs1SW1lyrXxVz2RtiiFKDOELlC"
#define REKOR2_HASH "oM/HEnHW4njlfNMy/5V8P3BD/do1TEy7GQow1W76Ab8="
#define REKOR2_TIMESTAMP \
	"MIIE6jADAgEAMIIE4QYJKoZIhvcNAQcCoIIE0jCCBM4CAQMxDTALBglghkgBZQMEAgEwgcIGCyqGSIb3DQEJEAEEoIGyBIGvMI" \
	"GsAgEBBgkrBg" \
	"EEAYO/MAIwMTANBglghkgBZQMEAgEFAAQgbd8xYJ4qbIFPgmaqt1IEt6H16W0bwH3eb/" \
	"Oa3YQIzaICFFWXQsce2uW2RSM6esQ6jQMxQqWsGA8y" \
	"MDI1MDYxMjEyMDIyMFowAwIBAQIJAI9Z8q/" \
	"mnMiooDKkMDAuMRUwEwYDVQQKEwxzaWdzdG9yZS5kZXYxFTATBgNVBAMTDHNpZ3N0b3JlLXRzYa" \
	"CCAhMwggIPMIIBlqADAgECAhQKNaEGYdXiQXPGiZan8n3yfgN8pzAKBggqhkjOPQQDAzA5MRUwEwYDVQQKEwxzaWdzdG9yZS5k" \
	"ZXYxIDAeBgNV" \
	"BAMTF3NpZ3N0b3JlLXRzYS1zZWxmc2lnbmVkMB4XDTI1MDMyODA5MTQwNloXDTM1MDMyNjA4MTQwNlowLjEVMBMGA1UEChMMc2" \
	"lnc3RvcmUuZG" \
	"V2MRUwEwYDVQQDEwxzaWdzdG9yZS10c2EwdjAQBgcqhkjOPQIBBgUrgQQAIgNiAATHW/" \
	"kXcekP16Ae6SekEWVHPtAFEMm7hp5XO33MktFjSW+b" \
	"HWUXtYEzZz0A3xkY9CyYOoeUk3ZH/v5HEuS+UvORzX0g7Hfy3uYYYRwHtqBQN0IX8rLdFMtIrRej/" \
	"QCAdB2jajBoMA4GA1UdDwEB/wQEAwIHgD" \
	"AdBgNVHQ4EFgQUqPxk9ijeLuY7c09UjFLE4ZzdU6UwHwYDVR0jBBgwFoAUOyBGWV61Mk1HMM5uY+5zdEfyBH0wFgYDVR0lAQH/" \
	"BAwwCgYIKwYB" \
	"BQUHAwgwCgYIKoZIzj0EAwMDZwAwZAIwRK9VLoYa0Xff4nX1N/AQ1YleNG/" \
	"iLT8dAXAtRKRfpN9XuDScbxWeo0cku8SkC06NAjBQPe7LBNeitA" \
	"/UOBtXT2sX1h6f4ISqz+ISmJ4lY+y3bzRJI5nk1r53I9WT3/" \
	"xIWToxggHcMIIB2AIBATBRMDkxFTATBgNVBAoTDHNpZ3N0b3JlLmRldjEgMB4G" \
	"A1UEAxMXc2lnc3RvcmUtdHNhLXNlbGZzaWduZWQCFAo1oQZh1eJBc8aJlqfyffJ+A3ynMAsGCWCGSAFlAwQCAaCB/" \
	"DAaBgkqhkiG9w0BCQMxDQ" \
	"YLKoZIhvcNAQkQAQQwHAYJKoZIhvcNAQkFMQ8XDTI1MDYxMjEyMDIyMFowLwYJKoZIhvcNAQkEMSIEICXnz5HAQnH9WOuMmb4h" \
	"ZGrrZvGZPI98" \
	"Lw0T3ZgcdddfMIGOBgsqhkiG9w0BCRACLzF/MH0wezB5BCAG9P/gR/" \
	"6zWZm3M7DXoyNQHPwY5MAzZqhF13U250snRDBVMD2kOzA5MRUwEwYDVQ" \
	"QKEwxzaWdzdG9yZS5kZXYxIDAeBgNVBAMTF3NpZ3N0b3JlLXRzYS1zZWxmc2lnbmVkAhQKNaEGYdXiQXPGiZan8n3yfgN8pzAK" \
	"BggqhkjOPQQD" \
	"AgRoMGYCMQCH3FfjUxAybs2PGGGimOaahUA2wDuwYws22nzLnsGEwGg6b6GOuMduqGpbSuuJnoQCMQDhzG6dCCyjgB+O9++" \
	"D89S2ShJeUeJ0QS" \
	"MwYiAelDXX5nMg0m6dxLVJCB5HSyku32g="

static const char rekor2_body[] =
	"{\"apiVersion\":\"0.0.2\",\"kind\":\"hashedrekord\",\"spec\":{\"hashedRekordV002\":{\"data\":{"
	"\"algorithm\":"
	"\"SHA2_256\",\"digest\":\"" REKOR2_HASH "\"},\"signature\":{\"content\":\"" REKOR2_SIGNATURE
	"\",\"verifier\":{\"keyDetails\":\"PKIX_ECDSA_P256_SHA_256\",\"x509Certificate\":{\"rawBytes\":"
	"\"" REKOR2_CERTIFICATE "\"}}}}}}";
static const char rekor2_digest[] = "sha256:a0cfc71271d6e278e57cd332ff957c3f7043fdda354c4cbb190a30d56efa01bf";

static char *rekor2_bundle(bool timestamp)
{
	CLEANUP_FREE char *body = world_b64(rekor2_body, strlen(rekor2_body));

	return str_printf(
		"{\"mediaType\":\"application/"
		"vnd.dev.sigstore.bundle.v0.3+json\",\"verificationMaterial\":{\"certificate\":{"
		"\"rawBytes\":\"" REKOR2_CERTIFICATE
		"\"},\"tlogEntries\":[{\"logIndex\":\"735\",\"logId\":{\"keyId\":"
		"\"8w1amZ2S5mJIQkQmPxdMuOrL/"
		"oJkvFg9MnQXmeOCXck=\"},\"kindVersion\":{\"kind\":\"hashedrekord\",\"version\":"
		"\"0.0.2\"},\"inclusionProof\":{\"logIndex\":\"735\",\"rootHash\":"
		"\"rs1YPY0ydAV0lxgfrq5pE4oRpUJwo3syeps5+eGUTDI=\",\"treeSize\":\"736\",\"hashes\":["
		"\"JW27adKabAL7le2rFDSEUhPM94lzNjlhqi1BDFCFLCQ=\","
		"\"RbML4EU6v7vmDTLhcSzoi9tXr2IpqvGdXSofxij89RA=\","
		"\"W04Xfh+3qi0jWpYoDkt7GOrs5rRcDkZ2DH4P7YRmeVo=\","
		"\"cuFXxcpaflWsMid8mdJIBbBm4X25GQzOS87ZCrU0zgY=\","
		"\"Q1YXRmGYBNGsajHNJEPEJJUBUCoG4RbZx2bpvuDUxBk=\",\"+gnK+M5cyTZ0UncCImJch9APOM+"
		"yjuVvfEuX7z6AamQ=\","
		"\"QMesRTEZdIgthOEinYE/9J7wGv+VmArDZTICj9POmhY=\",\"UNUMG62rMwoqCqFKknh4R5Ubkf5Z6dj+Pk0m/"
		"1xu8uo=\"],"
		"\"checkpoint\":{\"envelope\":\"log2025-alpha1.rekor.sigstage.dev\\n736\\n"
		"rs1YPY0ydAV0lxgfrq5pE4oRpUJwo3syeps5+eGUTDI=\\n\\n\\u2014 log2025-alpha1.rekor.sigstage.dev "
		"8w1amdbj1mjNN674dHAkD92+QZoEgBC7o0mXYSTRluDjQrOPjrps3zQB9ut+ShLepyZPsWBDi5IB3yXyjgjQT6OG9A8="
		"\\n\"}},"
		"\"canonicalizedBody\":\"%s\"}]%s},\"messageSignature\":{\"messageDigest\":{\"algorithm\":"
		"\"SHA2_256\",\"digest\":"
		"\"" REKOR2_HASH "\"},\"signature\":\"" REKOR2_SIGNATURE "\"}}",
		body,
		timestamp ? ",\"timestampVerificationData\":{\"rfc3161Timestamps\":[{\"signedTimestamp\":"
			    "\"" REKOR2_TIMESTAMP "\"}]}"
			  : "");
}

static void test_rekor2(void **state)
{
	struct sign_root *root = parse_root(staging_root);
	CLEANUP_FREE char *bundle = rekor2_bundle(true), *bare = rekor2_bundle(false);
	struct sign_requirement rq = {.issuer = "https://token.actions.githubusercontent.com",
		.identity = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/"
			    ".github/"
			    "workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main",
		.root = root};
	struct sign_candidate c = {.is_bundle = true, .payload = bundle, .payload_len = strlen(bundle)};
	struct err e = {0};

	if (sign_verify(&rq, rekor2_digest, &c, &e) < 0)
		fail_msg("%s", e.msg);
	c = (struct sign_candidate){.is_bundle = true, .payload = bare, .payload_len = strlen(bare)};
	assert_int_equal(sign_verify(&rq, rekor2_digest, &c, &e), -EKEYREJECTED);
	assert_non_null(strstr(e.msg, "nobody trusted says when"));
	sign_root_free(root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rekor2),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
