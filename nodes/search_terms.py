"""Search words for each node beside its name, in the languages of ``locales/``."""

from __future__ import annotations

_EDIT = [
    *("kontext", "flux kontext", "flux edit", "image edit", "edit photo", "image to image", "img2img", "i2i"),
    *("图生图", "图像编辑", "修图", "圖生圖", "圖像編輯", "圖片編輯", "修圖"),
    *(
        "画像編集",
        "画像から画像",
        "이미지 편집",
        "이미지 투 이미지",
        "edit gambar",
        "edit foto",
        "gambar ke gambar",
    ),
]
_MAKE = [
    *(
        "text to image",
        "txt2img",
        "t2i",
        "文生图",
        "文生圖",
        "テキストから画像",
        "텍스트 투 이미지",
        "teks ke gambar",
    ),
]

SEARCH_TERMS: dict[str, list[str]] = {
    "RivyaSubmitAndWait": [*_EDIT, *_MAKE],
    "RivyaUploadReference": [
        "reference image",
        "参考图",
        "參考圖",
        "参照画像",
        "참조 이미지",
        "gambar referensi",
    ],
    "RivyaKontextParams": [
        "aspect ratio",
        "画面比例",
        "畫面比例",
        "アスペクト比",
        "화면 비율",
        "rasio aspek",
    ],
    "RivyaCropForEdit": [
        *("inpaint", "edit region", "mask edit", "kontext crop"),
        *(
            "局部重绘",
            "局部重繪",
            "裁剪",
            "裁切",
            "部分編集",
            "インペイント",
            "부분 편집",
            "인페인트",
            "edit sebagian",
        ),
    ],
    "RivyaStitchEdit": [
        *("paste back", "full resolution", "uncrop", "inpaint stitch"),
        *("贴回", "貼回", "拼接", "合成", "貼り戻す", "붙여넣기", "합치기", "tempel kembali"),
    ],
    "RivyaPromptList": [
        *("batch prompts", "prompt batch", "many prompts"),
        *("批量提示词", "批次提示詞", "プロンプト一覧", "프롬프트 목록", "daftar prompt"),
    ],
    "RivyaCollectTasks": [
        *(
            "recover",
            "resume",
            "lost picture",
            "找回",
            "恢复",
            "復原",
            "回収",
            "復元",
            "복구",
            "ambil kembali",
        ),
    ],
    "RivyaCredits": ["balance", "account", "余额", "餘額", "点数", "點數", "残高", "잔액", "saldo"],
}
