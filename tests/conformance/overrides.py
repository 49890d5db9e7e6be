"""Where the general rules do not fit a configuration: fields by the configuration's model type."""

from typing import Any

MULTIMODAL_ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}}
HALF_MULTIMODAL_ROPE = {
    "rope_parameters": {
        "rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 0], "partial_rotary_factor": 0.5,
    }
}  # fmt: skip
IMAGE_WORDS = {"<|extra_200|>": 62, "<image>": 63, "<|visual token 000000|>": 61, "<|visual token 000001|>": 60}
FOUR_LAYERS = {"num_hidden_layers": 4}

# What a class needs even for its defaults.
DEFAULTS: dict[str, dict[str, Any]] = {
    "autoformer": {"prediction_length": 4},
    "gemma4_assistant": {
        "text_config": {"model_type": "gemma4_text", "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}
    },
    "informer": {"prediction_length": 4},
    "time_series_transformer": {"prediction_length": 4},
}

# What one class needs that others of its configuration do not.
OF_CLASS: dict[str, dict[str, Any]] = {
    "T5GemmaEncoderModel": {"is_encoder_decoder": False},
}

OVERRIDES: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "align_vision_model": {"width_coefficient": 0.1, "depth_coefficient": 0.1},
    "blenderbot": {"encoder_layers": 3},
    "blt": {"encoder_hash_byte_group_vocab": 100, "cross_attn_k": 2},
    "blt_global_transformer": {"hidden_size": 64},
    "blt_local_encoder": {"hidden_size_global": 64, "vocab_size": 260},
    "blt_local_decoder": {"hidden_size_global": 64, "vocab_size": 260},
    "chameleon": {"vocabulary_map": {"<image>": 63, "IMGIMGA": 62}},
    "dbrx": {"attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0}},
    "emu3": {"vocabulary_map": IMAGE_WORDS},
    "emu3_vqgan": {"base_channels": 32, "channel_multiplier": [1, 1], "num_res_blocks": 1},
    "ernie4_5_vl_moe_text": {
        **MULTIMODAL_ROPE, "moe_k": 2, "moe_intermediate_size": [24, 24],
    },
    "florence_vision": {"embed_dim": [16, 16, 16, 16], "num_heads": [2] * 4, "num_groups": [2] * 4, "depths": [1] * 4},
    "fun_asr_nano": {"adaptor_config": {"intermediate_size": 8}},
    "glm_ocr_text": MULTIMODAL_ROPE,
    "hunyuan_vl_text": {"head_dim": 8, **MULTIMODAL_ROPE},
    "bridgetower_text_model": {"hidden_size": 64},
    "bridgetower_vision_model": {"hidden_size": 64},
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": MULTIMODAL_ROPE["rope_parameters"]}
    },
    "cosmos3_edge_text": MULTIMODAL_ROPE,
    "deepseek_v2": {"num_experts_per_tok": 2, "n_routed_experts": 4, "n_group": 1, "topk_group": 1},
    "depth_pro": {"patch_size": 224},
    "diffusion_gemma_text": {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 24},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "ernie4_5_moe": {"moe_k": 2},
    "deepseek_ocr2_text": {"mlp_layer_types": ["dense", "sparse", "sparse"], "num_experts_per_tok": 2},
    "dots3_note_text": {
        "per_layer_config": {
            2: {"num_attention_heads": 8, "num_key_value_heads": 8, "kv_lora_rank": 24, "head_dim": 16}
        }
    },
    "efficientnet": {"width_coefficient": 0.1, "depth_coefficient": 0.1},
    "esm": {"vocab_size": 64, "pad_token_id": 1, "mask_token_id": 2},
    "fsmt": {"src_vocab_size": 64, "tgt_vocab_size": 64},
    "gemma3n_text": {"intermediate_size": [48] * 4, "hidden_size_per_layer_input": 8},
    "gemma4_assistant": {
        "text_config": {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0, "num_kv_shared_layers": 0}
    },
    "glm4v_moe_text": HALF_MULTIMODAL_ROPE,
    "glm4v_text": MULTIMODAL_ROPE,
    "glm5_next_text": {"qk_rope_head_dim": 0, "num_key_value_heads": 4, "index_topk": 32},
    "glm_image_text": MULTIMODAL_ROPE,
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "num_layers": 4},
    "granitemoehybrid": {"layer_types": ["mamba", "attention", "mamba"], "mamba_n_heads": 8, "mamba_d_head": 8},
    "granite4_vision": {"deepstack_layer_map": [[1, 0]], "spatial_target_layers": [1], "downsample_rate": "1/2"},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "jamba": {**FOUR_LAYERS, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2},
    "layoutlmv3": {"coordinate_size": 4, "shape_size": 8},
    "led": {"max_encoder_position_embeddings": 1024, "attention_window": 8},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv"], "num_dense_layers": 1},
    "lilt": {"hidden_size": 48},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1},
    "mimi": {"upsample_groups": 32},
    "mimo_v2_flash": {"head_dim": 24, "v_head_dim": 8},
    "molmo2": {"adapter_config": {"vision_feature_layer": [-1]}},
    "ministral": {"head_dim": 8, "num_key_value_heads": 2},
    "moonshine_streaming": {"num_key_value_heads": 4},
    "muse_spark_audio": {"hidden_sizes": [16, 16, 16, 16], "hidden_size": 16},
    "neomme": {"head_dim": 16},
    "nemotron": {"num_key_value_heads": 2, "head_dim": 8},
    "paddleocr_vl_text": MULTIMODAL_ROPE,
    "perceiver": {"d_latents": 32, "num_latents": 16},
    "qwen2_5_vl_text": MULTIMODAL_ROPE,
    "qwen2_5_omni_text": MULTIMODAL_ROPE,
    "qwen4_exp_text": {
        "indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 8,
        "indexer_compress_ratio": 4,
    },
    "qwen2_vl_text": MULTIMODAL_ROPE,
    "reformer": {
        "is_decoder": True, "attn_layers": ["local", "lsh", "local"], "axial_pos_shape": [4, 16],
        "axial_pos_embds_dim": [8, 24], "attention_head_size": 8, "max_position_embeddings": 64,
    },
    "step3p5": {"sliding_window": 8},
    "t5gemma2_encoder": {"text_config": {"dropout_rate": 0.0}},
    "tvp": {"max_img_size": 448, "visual_prompt_size": 96},
    "vibevoice_asr": {"acoustic_tokenizer_chunk_size": 3200},
    "vibevoice_acoustic_tokenizer": {"num_filters": 1},
    "vibevoice_acoustic_tokenizer_encoder": {"num_filters": 1},
    "vibevoice_acoustic_tokenizer_decoder": {"num_filters": 1},
    "xlstm": {"hidden_size": 128, "embedding_dim": 128},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"], "num_hidden_layers": 4,
        "attention_hidden_size": 64, "attention_head_dim": 16,
    },
    "zaya": {"num_experts_per_tok": 1},
}  # fmt: skip
