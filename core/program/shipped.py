"""The identities of what is shipped with this release. A digest that was released stays here for ever: programs in logs
name it. `tests/unit/core/program/test_library.py` compares them with the documents.
"""

from __future__ import annotations

STANDARD_1 = "85b74dc57cf727737e87037f168692820b6ceb597e81a13aaabc0aa80c55fe97"
LIBRARIES: dict[str, str] = {"standard@1": STANDARD_1}
"""SHA-256 by `name@version`; the documents are beside this module."""

DEFAULT_PROGRAM = "b1c8ab1fc75c34978f28eab137d8eadc985a38c312ec987def466fede7dce091"
"""The program of a log without any deployment: it uses standard@1 and adds nothing."""

KERNEL_COLUMNS: dict[str, str] = {
    "1a984151e8b2a3c3d988300bbf936f062fe24aad2d79569ebc1984b31e3c2491": "amount",
    "717dad0e940c200b7e2a2d3178af55860d4092902a5650c3781047d81b161f14": "hour_of_day",
    "2309586a254645c4a824918094ff2a8c0b60226b0543dce62899013f54e67096": "day_of_week",
    "e6864aa79a72c23d1de8e1e2d0489d114f848e4154aa2e637203ac4ff6b7e456": "count_10m",
    "77d02c755fe18d14ec69b995ec342d5c2a68c2161d02dae1d7a83c4370e4d01f": "sum_10m",
    "4c5a3b97c81856bee03559b7f7b06038bfceb7ef2b9e76bb08f42f09edc4ef9c": "mean_10m",
    "ba4122736c204a87af416b7c46e5970d5f2acb5c0429731d2cadbb073f88a7cc": "max_10m",
    "ec5478760389fe8c6505a01f8c27eb25b3e9d81feae73853856b7f9b3b9265c7": "merchants_10m",
    "66f2d383012e6ef2d699fd83754fb674f12dd3a493f50f5891c8930cfbfd427f": "count_1h",
    "8d2fc7092d43856ad3ee1d5169fb8fc7a28ba5fb00ddd947408275dc5e4a7ea0": "sum_1h",
    "d7836e26d2b3f427b17d3545c493019856fc328ad9418c9c8d04c026a8578ca3": "mean_1h",
    "8f24f0d590dc95b1695ac64a9e5ae20885e0805cd598324714de0ca515528a43": "max_1h",
    "723f22226f32c81bcca287faff5098e86452f204e590e95c9a2132bd36ef6666": "merchants_1h",
    "92f3abb165f411faf32b23d643770d65cd0b603ddd09736f1af0ee356cde2b86": "count_24h",
    "56743f8cc1685e69c738384381f35ae91abbfa61f8f07356f2ce60207525f014": "sum_24h",
    "8df42dbe94cd9c37b32528e132f4819d94ff15b340182d5e7953e4ef7bef9fdd": "mean_24h",
    "12d6cae391b3934e747d5c151cb08ec362afcad69be90427cb15d613c9c49cdf": "max_24h",
    "dbdc8c02fe64989d4d90a6349884713d50d88c1abc75a2c690ee7d27980b325f": "merchants_24h",
    "8f721dd1c62c296c75ca68c2b8f199aecb448f7f0e92da3d09eb819b4ada0656": "count_7d",
    "0dedfb577a18ba6387def9297c4cac00f1f65be966081d53d85b58149a193fa9": "sum_7d",
    "d306e68a3590c863cc3781cafa91659ffbc7f97cee5dd4e5f0ed009fe4c0a67d": "mean_7d",
    "1114aa3514faabd3c1f3068d93ffcd0559096909eb1d6eafc508e35be1fe818a": "max_7d",
    "fd48a286fe21eff02e3c538f68d35844354b0bf8cc67db2e1c8b974602b24016": "merchants_7d",
    "28c15c1cf5b09eb971df4d5a706fdb555157b284cf901e2c78ee432a3af2da33": "count_30d",
    "b313ff56654475f5229e101d5287b20a5fc7f7beb4bf31c42422f3e223653de5": "sum_30d",
    "8bd627d0289bfaa3919967f1fc482aefb12a09eacca2bf605c67b1cb546250d0": "mean_30d",
    "39a3c6ecb59da8f77248eef810e4d4d71a522fbbb92f9bdd3b7ee27b8721a405": "max_30d",
    "d35a336f42eef0000170512bd5c3a9d93067a3ff45db47e9a125efca8a110e1c": "merchants_30d",
    "56886f4ebcaedd594f3260bedbc8c15de20cf29d56efce5eb0f6004cf662d9f5": "amount_to_mean_7d",
    "233e6ac488ff4b10296ab212c29adf4df324505699b442028acc45080357282b": "amount_to_mean_30d",
    "3cb9c4c06ab599e04977fe3d78bc536811b994fe2b48ff5c33204829debbf08e": "amount_to_max_30d",
    "da3815223944f238cb2cff545b0cc408cbaef9514b37c69224856619c7e4718a": "merchant_is_new",
    "8e771788a217d6a4dda0d52acd6374fa01119a5bfbdf7c11860c2597c68d0291": "category_is_new",
    "cceb4f0aa67181f6746d1225ed6ed5d934780ba518362437e62ea58876f66cc6": "country_is_new",
    "fed635dca46a02f746d74891919c783ad222d1db3c3d1569f8df1d57fbe20caf": "device_is_new",
    "5d0364782c042f34add65a06339f8aa218f3379f6dbf08078d4c149eebbb21fb": "source_delay_s",
}
"""The kernel's columns that the language can express, by the identity of their definition
(`core.program.language.identity`). Part of ENGINE: lines are added, never changed. For the others, the identity is that
of their named function.
"""
